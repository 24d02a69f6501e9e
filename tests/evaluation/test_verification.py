"""Published sets by three routes - folder and list, `.bin`, embeddings in a file - and several of them at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import faceprint.inference
from faceprint.cli.evaluate import evaluate
from faceprint.data.bin import write_bin
from faceprint.data.images import ImageError
from faceprint.data.pixels import InputSpec
from faceprint.data.synthetic import SyntheticFaces
from faceprint.errors import UserError
from faceprint.evaluation.embeddings import EmbeddingSet, embed_set
from faceprint.evaluation.feature_files import open_features
from faceprint.evaluation.pairs import file_pairs
from faceprint.evaluation.protocols import score_source
from faceprint.evaluation.sources import FeatureSource, ModelSource
from faceprint.evaluation.verification import RFW, SETS, summarize_sets, verification_sets
from faceprint.inference.embedder import Embedder

PEOPLE, IMAGES, SIZE = 12, 4, (28, 28)
WEIGHTS = np.random.default_rng(1).normal(size=(3 * 28 * 28, 16)).astype(np.float32)
CALLS: list[int] = []


def linear(batch: np.ndarray) -> np.ndarray:
    CALLS.append(len(batch))
    return batch.reshape(len(batch), -1) @ WEIGHTS


EMBEDDER = Embedder(
    features=linear, input=InputSpec(size=SIZE), embedding_dim=16, name="linear", content_hash=lambda: "linear"
)


def pairs_text() -> str:
    """LFW's layout: two folds, six people each, of 6 same and 6 different pairs."""
    lines = ["2\t6"]
    for fold in (range(6), range(6, 12)):
        lines += [f"P{i}\t{1 + i % 3}\t{2 + i % 3}" for i in fold]
        lines += [f"P{i}\t{1 + i % 4}\tP{fold[0] + (i + 1) % 6}\t{1 + (i + 1) % 4}" for i in fold]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`lfw/` with its list, and `cfp_fp.bin` with the very same pairs."""
    root = tmp_path_factory.mktemp("sets")
    faces = SyntheticFaces(PEOPLE, IMAGES, size=SIZE, difficulty=0.3, seed=3)
    for person in range(PEOPLE):
        (root / "lfw" / f"P{person}").mkdir(parents=True)
        for image in range(IMAGES):
            path = root / "lfw" / f"P{person}" / f"P{person}_{image + 1:04d}.png"
            cv2.imwrite(str(path), faces[person * IMAGES + image][0][..., ::-1])
    (root / "lfw" / "pairs.txt").write_text(pairs_text())
    listed = file_pairs(root / "lfw", root / "lfw" / "pairs.txt")
    order = np.stack([listed.first, listed.second], 1).reshape(-1)
    write_bin(root / "cfp_fp.bin", [Path(listed.names[i]).read_bytes() for i in order], listed.same)
    return root


def result_of(source: Any, pairs: Any) -> dict[str, Any]:
    result = score_source(source, pairs).result
    return {key: result[key] for key in ("accuracy", "accuracy_std", "threshold", "eer", "auc", "tar_at_far")}


def test_three_routes_give_one_number(sets: Path, tmp_path: Path) -> None:
    listed = file_pairs(sets / "lfw", sets / "lfw" / "pairs.txt")
    folder = score_source(ModelSource(EMBEDDER), listed)
    # A .bin has ten folds of its own: here the list's two, so that all routes are measured alike.
    (load,) = verification_sets(sets, ["cfp_fp"]).values()
    packed = score_source(ModelSource(EMBEDDER), replace(load(), fold=listed.fold))
    made = embed_set(EMBEDDER, listed.images)
    np.savez(tmp_path / "a.npz", path=np.array(made.names), embedding=made.vectors)
    unlabelled = file_pairs(None, sets / "lfw" / "pairs.txt")
    by_file = score_source(FeatureSource(open_features(tmp_path / "a.npz"), "a.npz"), unlabelled)
    assert 0.5 < folder.result["accuracy"] < 1
    for other in (packed, by_file):
        assert other.scores.tolist() == folder.scores.tolist()
        for key in ("accuracy", "accuracy_std", "threshold", "eer", "auc", "tar_at_far", "false_accepts"):
            assert other.result[key] == folder.result[key], key
    assert by_file.result["model"] == "a.npz"
    assert "images_per_second" not in by_file.result
    assert folder.result["mean_norm"] == pytest.approx(float(made.view_norms.mean()))


def test_a_bin_is_scored_by_the_rows_of_a_matrix(sets: Path) -> None:
    (load,) = verification_sets(sets, ["cfp_fp"]).values()
    pairs = load()
    model = score_source(ModelSource(EMBEDDER), pairs)
    rows = np.full((2 * len(pairs.same), 16), np.nan, np.float32)  # rows of repeated images are not looked at
    rows[list(pairs.keys)] = embed_set(EMBEDDER, pairs.images).vectors
    features = EmbeddingSet(vectors=rows, names=[str(i) for i in range(len(rows))])
    assert score_source(FeatureSource(features, "rows"), pairs).scores.tolist() == model.scores.tolist()


def test_unreadable_images_reject_their_pairs(sets: Path) -> None:
    listed = file_pairs(sets / "lfw", sets / "lfw" / "pairs.txt")

    def read(number: int) -> np.ndarray:
        if number == 2:
            raise ImageError("image 2: broken")
        return listed.read(number)

    broken = replace(listed, read=read)
    with pytest.raises(UserError, match=r"1 of \d+ images cannot be read: image 2: broken"):
        score_source(ModelSource(EMBEDDER), broken)
    whole = score_source(ModelSource(EMBEDDER), listed).scores
    some = score_source(ModelSource(EMBEDDER, skip_unreadable=True), broken)
    touched = (listed.first == 2) | (listed.second == 2)
    assert touched.any()
    assert (some.scores[touched] == -1).all()
    assert np.allclose(some.scores[~touched], whole[~touched], atol=1e-6)  # other batches round otherwise
    assert some.result["unreadable_images"] == 1


def test_every_set_is_found_by_every_name(tmp_path: Path) -> None:
    assert [*SETS] == [
        "lfw", "cfp_ff", "cfp_fp", "agedb_30", "calfw", "cplfw", "vgg2_fp",
        "rfw_african", "rfw_asian", "rfw_caucasian", "rfw_indian",
    ]  # fmt: skip
    image = cv2.imencode(".png", np.full((28, 28, 3), 9, np.uint8))[1].tobytes()
    for row in SETS.values():
        write_bin(tmp_path / row.bins[0], [image] * 4, [1, 0])
    found = verification_sets(tmp_path)
    assert [*found] == [*SETS]
    assert {len(load().same) for load in found.values()} == {2}
    assert [*verification_sets(tmp_path, ["rfw", "lfw"])] == [*RFW, "lfw"]
    assert (tmp_path / "Caucasian_test.bin").exists()


LISTS = {
    "cfp_fp": ("cfp/Protocol/Split/FP", "cfp/Data/Images/001/frontal/01.png"),
    "agedb_30": ("agedb_30/agedb_30.txt", "agedb_30/images/a.png"),
    "calfw": ("calfw/pairs_CALFW.txt", "calfw/images/a.png"),
    "rfw_asian": ("rfw/txts/Asian/Asian_pairs.txt", "rfw/data/Asian/m.01/m.01_0001.png"),
}


@pytest.mark.parametrize("name", LISTS)
def test_folders_with_their_own_lists(tmp_path: Path, name: str) -> None:
    listed, image = (tmp_path / part for part in LISTS[name])
    for path in (listed, image):
        path.parent.mkdir(parents=True, exist_ok=True)
    files = [image, image.with_name(image.name.replace("a.", "b.").replace("0001", "0002"))]
    if name == "cfp_fp":
        files = [image, tmp_path / "cfp/Data/Images/001/profile/01.png"]
        (listed / "01").mkdir(parents=True)
        (listed / "01" / "same.txt").write_text("1,1\n")
        (listed / "01" / "diff.txt").write_text("1,1\n")
        for kind, folder in (("F", "frontal"), ("P", "profile")):
            (tmp_path / f"cfp/Protocol/Pair_list_{kind}.txt").write_text(f"1 ../Data/Images/001/{folder}/01.jpg\n")
    elif name == "agedb_30":
        listed.write_text("a.jpg b.jpg 1\na.jpg b.jpg 0\n")
    elif name == "calfw":
        listed.write_text("a.jpg 1\nb.jpg 1\na.jpg 0\nb.jpg 0\n")
    else:
        listed.write_text("m.01\t1\t2\nm.01\t1\tm.01\t2\n")
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.zeros((28, 28, 3), np.uint8))
    (load,) = verification_sets(tmp_path).values()
    pairs = load()
    assert (len(pairs.same), sorted(pairs.names)) == (2, sorted(map(str, files)))


def test_absent_and_unknown_sets(sets: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lacks calfw \(looked for calfw: calfw\.bin, calfw/pairs_CALFW\.txt"):
        verification_sets(sets, ["lfw", "calfw"])
    with pytest.raises(UserError, match="unknown verification set 'lwf'"):
        verification_sets(sets, ["lwf"])
    with pytest.raises(UserError, match="lacks lfw, cfp_ff"):
        verification_sets(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        verification_sets(tmp_path / "absent")


def test_rfw_by_hand() -> None:
    result = summarize_sets({name: {"accuracy": a} for name, a in zip(RFW, (0.9, 0.92, 0.96, 0.94), strict=True)})
    assert result["rfw"]["mean_accuracy"] == pytest.approx(0.93)
    assert result["rfw"]["std_of_accuracies_ddof_1"] == pytest.approx((20e-4 / 3) ** 0.5)  # 3², 1², 3², 1² % about 0.93
    assert result["rfw"]["skewed_error_ratio"] == pytest.approx(2.5)
    assert "rfw" not in summarize_sets({"lfw": {"accuracy": 1.0}})
    perfect = summarize_sets({name: {"accuracy": 1.0} for name in RFW})
    assert perfect["rfw"]["skewed_error_ratio"] is None


app = typer.Typer()
app.command()(evaluate)


def test_the_command(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faceprint.inference, "load", lambda *_, **__: EMBEDDER)
    options = [f"folder={sets}", "sets=lfw,cfp_fp", f"cache={tmp_path / 'cache'}"]
    first = CliRunner().invoke(app, ["m", "verification", *options, "--json", str(tmp_path / "a.json")])
    assert first.exit_code == 0, first.output
    result = json.loads((tmp_path / "a.json").read_text())
    assert [*result["sets"]] == ["lfw", "cfp_fp"]
    assert result["sets"]["lfw"]["published_pairs"] == 6000
    assert "24 of 6,000" in first.stdout
    CALLS.clear()
    second = CliRunner().invoke(app, ["m", "verification", *options, "--json", "-"])
    again = json.loads(second.stdout)
    assert (CALLS, again["sets"]["lfw"]["images_computed"]) == ([], 0)
    assert again["sets"]["lfw"]["images_per_second"] is None
    assert again["mean_accuracy"] == result["mean_accuracy"]
    drawn = CliRunner().invoke(app, ["m", "verification", *options, "intervals=20", "--json", "-"])
    sets_drawn = json.loads(drawn.stdout)
    accuracy = sets_drawn["sets"]["lfw"]["intervals"]["figures"]["accuracy"]
    assert accuracy["low"] <= result["sets"]["lfw"]["accuracy"] <= accuracy["high"]
    assert drawn.stderr.count("20 draws of") == 2
    methods = [each["interval"]["method"] for each in sets_drawn["figures"] if each["name"] == "EER"]
    assert all("20 bootstrap draws of" in method for method in methods)
    assert len(methods) == 2
    alone = CliRunner().invoke(
        app, ["m", "pairs", f"images={sets / 'lfw'}", f"pairs={sets / 'lfw' / 'pairs.txt'}", options[2]]
    )
    assert "all embeddings were in the cache" in alone.stdout
    features = embed_set(EMBEDDER, file_pairs(sets / "lfw", sets / "lfw" / "pairs.txt").images)
    np.save(tmp_path / "f.npy", features.vectors)
    (tmp_path / "list.txt").write_text("".join(f"{name}\n" for name in features.names))
    given = [str(tmp_path / "f.npy"), "pairs", f"pairs={sets / 'lfw' / 'pairs.txt'}", f"names={tmp_path / 'list.txt'}"]
    by_file = CliRunner().invoke(app, [*given, "--json", "-"])
    assert json.loads(by_file.stdout)["accuracy"] == result["sets"]["lfw"]["accuracy"]
    (tmp_path / "list.txt").write_text("".join(f"{name}x\n" for name in features.names))
    absent = CliRunner().invoke(app, given)
    assert absent.stderr.count("missing: P") == len(features.names) > 20
    for wrong, message in [
        ([*given, "flip=true"], "flip: for a model"),
        ([*given, "images=x"], "images: for a model"),
        (["m", "verification", *options, "plot=a.png"], "plot shows one set"),
        (["m", "verification", *options, "names=x"], "names belongs to embeddings"),
        (["m", "verification", *options, "skip_unreadable=1"], "allowed: true, false"),
    ]:
        refused = CliRunner().invoke(app, wrong)
        assert message in str(refused.exception), refused.output
