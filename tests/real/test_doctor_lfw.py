"""A published network fed wrongly, on photographs of LFW: the doctor says how it wants to be fed."""

from __future__ import annotations

from pathlib import Path

import pytest

from faceprint.data.align_folder import align_folder
from faceprint.data.detectors import choose_detector
from faceprint.data.executors import Processes
from faceprint.data.pair_lists import read_pair_list
from faceprint.evaluation.doctor import diagnose, overrides
from faceprint.evaluation.pairs import PairSet, file_pairs
from faceprint.evaluation.sources import ModelSource
from faceprint.inference import load

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def pairs(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> PairSet:
    """Of fold 1 every third pair: 100 of one person, 100 of two, aligned."""
    lfw, where = test_data / "data" / "lfw", tmp_path_factory.mktemp("doctor")
    chosen = [pair for pair in read_pair_list(lfw / "pairs.txt") if pair.fold == 1][::3]
    for name in {name for pair in chosen for name in (pair.first, pair.second)}:
        (where / "photographs" / name).parent.mkdir(parents=True, exist_ok=True)
        (where / "photographs" / f"{name}.jpg").symlink_to(lfw / f"{name}.jpg")
    detector = choose_detector("yunet", test_data / "models" / "face_detection_yunet_2023mar.onnx")
    align_folder(where / "photographs", where / "crops", detector=detector, executor=Processes(2))
    lines = [f"{pair.first},{pair.second},{int(pair.same)}" for pair in chosen]
    (where / "pairs.csv").write_text("\n".join(["path_a,path_b,same", *lines]))
    return file_pairs(where / "crops", where / "pairs.csv")


def test_sface_scaled_to_one(test_data: Path, pairs: PairSet) -> None:
    """SFace takes RGB 0..255; scaled to -1..1 it is near chance (59.3 % on all of LFW)."""
    assert (int(pairs.same.sum()), int((~pairs.same).sum())) == (100, 100)
    embedder = load(test_data / "models" / "face_recognition_sface_2021dec.onnx", device="cpu")
    found = diagnose(ModelSource(embedder), pairs)
    assert found["told_apart"]
    assert overrides(found["best"], embedder.input) == ["input.mean=0", "input.std=1"]
    assert found["best"]["accuracy"] >= 0.97
    assert found["as_configured"]["accuracy"] <= 0.8
    by_question = {finding["question"]: finding for finding in found["findings"]}
    assert by_question["scale"]["p_value"] < 0.01
    assert by_question["colour"]["better"].startswith("rgb")
