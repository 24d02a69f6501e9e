"""`faceprint eval`: what it prints and writes, and that every mistake is found before the model is opened."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import faceprint.inference
from faceprint.cli.evaluate import evaluate
from faceprint.data.images import Image
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.inference.embedder import Embeddings

app = typer.Typer()
app.command()(evaluate)

CALLS: list[dict[str, Any]] = []


class Perfect:
    """The colour of an image is who it shows."""

    name = "perfect"
    input = InputSpec()
    embedding_dim = 3
    content_hash = None
    card = None

    def embed_with_norms(
        self,
        images: Iterable[Image],
        *,
        flip: bool = False,
        batch_size: int = 64,
        progress: Callable[[int, int], None] | None = None,
    ) -> Embeddings:
        CALLS[-1].update(flip=flip, batch_size=batch_size)
        vectors = np.array([np.eye(3)[int(image[0, 0].argmax())] for image in images], np.float32)
        norms = np.ones(len(vectors), np.float32)
        return Embeddings(vectors=vectors, norms=norms, view_norms=norms)


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `faceprint.inference.load` was asked for."""
    CALLS.clear()

    def load(path: str, input_overrides: dict[str, str] | None = None, device: str = "auto") -> Perfect:
        CALLS.append({"path": path, "input_overrides": input_overrides, "device": device})
        return Perfect()

    monkeypatch.setattr(faceprint.inference, "load", load)
    return CALLS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for channel, name in enumerate(("Ann", "Bo", "Cy")):
        (tmp_path / "crops" / name).mkdir(parents=True)
        for image in (1, 2):
            pixels = np.zeros((112, 112, 3), np.uint8)
            pixels[..., 2 - channel] = 200 + image  # OpenCV writes BGR
            cv2.imwrite(str(tmp_path / "crops" / name / f"{name}_000{image}.png"), pixels)
    (tmp_path / "pairs.txt").write_text("2\t1\nAnn\t1\t2\nAnn\t1\tBo\t1\nCy\t1\t2\nCy\t1\tBo\t2\n")
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, UserError), result.output
    assert not CALLS
    return str(result.exception)


def test_table_json_and_picture(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    files = [f"images={folder}/crops", f"pairs={folder}/pairs.txt", f"plot={folder}/roc.png"]
    result = run("model.onnx", "pairs", *files, "--json", f"{folder}/result.json")
    assert result.exit_code == 0, result.output
    assert "100.00 % ± 0.00" in result.stdout
    assert "images per second" in result.stdout
    written = json.loads((folder / "result.json").read_text())
    assert written["accuracy"] == 1.0
    assert written["num_pairs"] == 4
    assert {"protocol", "accuracy_std", "threshold", "tar_at_far", "eer"} <= set(written)
    assert cv2.imread(str(folder / "roc.png")) is not None
    expected = {"path": "model.onnx", "input_overrides": None, "device": "auto", "flip": True, "batch_size": 64}
    assert [expected] == CALLS


def test_json_on_standard_output_is_alone_there(folder: Path) -> None:
    result = run("m", "pairs", f"images={folder}/crops", f"pairs={folder}/pairs.txt", "folds=2", "--json", "-")
    assert json.loads(result.stdout)["accuracy_rule"] == "best threshold on these pairs"
    assert "best threshold" in result.stderr


def test_options_reach_the_model(folder: Path) -> None:
    files = [f"images={folder}/crops", f"pairs={folder}/pairs.txt"]
    keys = ["flip=false", "batch_size=7", "device=cpu", "input.mean=0", "input.std=1", "input.colour=bgr"]
    result = run("m", "pairs", *files, *keys)
    assert result.exit_code == 0, result.output
    overrides = {"mean": "0", "std": "1", "colour": "bgr"}
    assert [{"path": "m", "input_overrides": overrides, "device": "cpu", "flip": False, "batch_size": 7}] == CALLS


def test_all_missing_images_are_printed(folder: Path) -> None:
    lines = [f"P{i:02}\t1\t2" for i in range(40)] + [f"P{i:02}\t1\tAnn\t1" for i in range(40)]
    (folder / "pairs.txt").write_text("\n".join(["1\t40", *lines]))
    result = run("m", "pairs", f"images={folder}/crops", f"pairs={folder}/pairs.txt")
    printed = [line.removeprefix("missing: ") for line in result.stderr.splitlines() if line.startswith("missing: ")]
    assert sorted(printed) == [f"P{i:02}/P{i:02}_000{j}" for i in range(40) for j in (1, 2)]
    assert "lacks 80 of the 81 images" in str(result.exception)
    assert not CALLS


def test_mistakes(folder: Path) -> None:
    files = [f"images={folder}/crops", f"pairs={folder}/pairs.txt"]
    before = sorted(os.listdir(folder))
    assert "unknown protocol 'pear' (nearest: 'pairs')" in refused("m", "pear")
    assert "unknown key of eval pairs 'image' (nearest: 'images')" in refused("m", "pairs", "image=x")
    assert "key=value" in refused("m", "pairs", "images")
    assert "images is given twice" in refused("m", "pairs", "images=a", "images=b")
    assert "needs the option pairs=" in refused("m", "pairs", "images=a")
    assert "no such folder" in refused("m", "pairs", "images=absent", files[1])
    assert "flip is 'maybe'" in refused("m", "pairs", *files, "flip=maybe")
    assert "batch_size is '0'" in refused("m", "pairs", *files, "batch_size=0")
    assert "ends in .png" in refused("m", "pairs", *files, "plot=roc.pdf")
    assert "there is no folder" in refused("m", "pairs", *files, f"plot={folder}/absent/roc.png")
    assert "there is no folder" in refused("m", "pairs", *files, "--json", f"{folder}/absent/a.json")
    assert "cannot be written" in refused("m", "pairs", *files, "--json", str(folder))
    assert sorted(os.listdir(folder)) == before


def megaface_options(folder: Path) -> list[str]:
    """Ann, Bo and Cy with two images each are probes; the distractors are Ann's first image and Cy's."""
    names = [f"{name}/{name}_000{image}.png" for name in ("Ann", "Bo", "Cy") for image in (1, 2)]
    probes = {"path": names, "id": [name[:2] for name in names]}
    (folder / "probes.json").write_text(json.dumps(probes))
    for size, distractors in ((1, names[:1]), (2, [names[0], names[4]])):
        (folder / f"distractors_{size}").write_text(json.dumps({"path": distractors}))
    lists = f"distractors={folder}/distractors_1,{folder}/distractors_2"
    return [f"probes={folder}/probes.json", lists, "device=cpu", "far=0.5"]


def test_megaface_of_a_model_and_of_the_features_it_wrote(folder: Path) -> None:
    images = [f"{kind}_images={folder}/crops" for kind in ("probe", "distractor")]
    (folder / "noises.txt").write_text("Bo_0002.jpg\nNobody_1.png\n")
    more = [f"facescrub_noises={folder}/noises.txt", f"output={folder}/out", f"save_features={folder}/features"]
    by_model = run(
        "m", "megaface", *megaface_options(folder), *images, *more, "algorithm=net", "--json", f"{folder}/a.json"
    )
    assert by_model.exit_code == 0, (by_model.output, by_model.exception)
    assert "1 of 2 names matched, 1 images" in by_model.stdout
    first = json.loads((folder / "a.json").read_text())
    assert [*first["sizes"]] == ["1", "2"]
    assert first["sizes"]["2"]["rank"]["1"] == 1.0  # distractors that equal the mate tie with it
    # Impostors: 6 probes x 2, of which Ann and Cy meet themselves: four ones. K = 6: the seventh is 0, pairs are above.
    assert first["sizes"]["2"]["verification"]["full"]["tpr"] == 1.0
    assert first["sizes"]["2"]["verification"]["full"]["false_accepts"] == 4
    assert len([*(folder / "features").rglob("*_net.bin")]) == 6 + 2
    CALLS.clear()
    features = [f"{folder}/features", "megaface", *megaface_options(folder), "algorithm=net", more[0]]
    by_features = run(*features, "--json", f"{folder}/b.json")
    assert by_features.exit_code == 0, (by_features.output, by_features.exception)
    assert json.loads((folder / "b.json").read_text())["sizes"] == first["sizes"]
    assert not CALLS
    assert (folder / "out" / "cmc_facescrub_megaface_2.json").exists()
    (folder / "features" / "megaface_features" / "Cy" / "Cy_0001.png_net.bin").unlink()
    lacking = run(*features)
    assert "the embeddings lack 1 of 2 images: megaface_features/Cy/Cy_0001.png_net" in str(lacking.exception)


def test_mfr_of_a_model(folder: Path) -> None:
    rows = [
        f"{name}/{name}_000{image}.png,{name},{int(image == 2)}" for name in ("Ann", "Bo", "Cy") for image in (1, 2)
    ]
    (folder / "list.csv").write_text("\n".join(["path,identity,mask", *rows, "Cy/Cy_0003.png,Cy,0"]))
    (folder / "crops" / "Cy" / "Cy_0003.png").write_bytes((folder / "crops" / "Cy" / "Cy_0001.png").read_bytes())
    given = [f"list={folder}/list.csv", f"images={folder}/crops", "device=cpu"]
    result = run("m", "mfr", *given, "--json", f"{folder}/a.json")
    assert result.exit_code == 0, (result.output, result.exception)
    written = json.loads((folder / "a.json").read_text())
    assert {name: each["tar"] for name, each in written["sets"].items()} == {"all": 1.0, "mask": 1.0}
    assert written["ranking"] == 1.0
    assert "0 false accepts of 0 allowed" in result.stdout
    assert "plot shows one set of pairs" in refused_search("m", "mfr", *given, f"plot={folder}/a.png")
    assert "needs the option list=" in refused_search("m", "mfr", f"images={folder}")


def refused_search(*arguments: str) -> str:
    CALLS.clear()
    return refused(*arguments)
