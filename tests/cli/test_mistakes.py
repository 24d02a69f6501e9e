"""Bad input to every command: exit 2, one clear line, nothing half-written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceprint.cli import main
from faceprint.errors import WorkerDied

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["faceprint", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        return int(stopped.value.code or 0), capsys.readouterr().err

    return run


def image(path: Path, size: tuple[int, int] = (112, 112), value: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for person in "ab":
        for number in range(2):
            image(tmp_path / "faces" / person / f"{person}_000{number + 1}.png", value=100 + 20 * number)
    return tmp_path / "faces"


TRAIN = (
    "train",
    "quickstart",
    "data.source=folder",
    "evaluation.protocols=[]",
    "steps=1",
    "out=run",
    "loader.workers=0",
)


def refused(result: tuple[int, str], *words: str) -> None:
    code, message = result
    assert code == 2, message
    *before, last = message.strip().splitlines()
    assert not any("Traceback" in line or "error" in line for line in before), message
    assert last.startswith("error: ")
    for word in words:
        assert word in last


def test_training_data(call: Call, folder: Path, tmp_path: Path) -> None:
    refused(call(*TRAIN, "data.path=absent"), "absent: no such folder")
    (tmp_path / "empty").mkdir()
    refused(call(*TRAIN, "data.path=empty"), "empty: no images")
    image(tmp_path / "one" / "a" / "1.png")
    refused(call(*TRAIN, "data.path=one"), "at least 2 identities", "has 1")
    image(tmp_path / "large" / "a" / "1.png", (250, 250))
    image(tmp_path / "large" / "b" / "1.png", (250, 250))
    refused(call(*TRAIN, "data.path=large"), "1.png", "250x250x3", "112x112x3", "data align")
    (folder / "a" / "a_0001.png").write_text("no image")
    refused(call(*TRAIN, "data.path=faces"), "a_0001.png", "not an image")
    jpeg = cv2.imencode(".jpg", np.zeros((112, 112, 3), np.uint8))[1].tobytes()
    (folder / "a" / "a_0001.png").write_bytes(jpeg[: len(jpeg) // 2])
    refused(call(*TRAIN, "data.path=faces"), "a_0001.png", "truncated")
    assert not (tmp_path / "run").exists()


def test_recipes_keys_and_names(call: Call, tmp_path: Path) -> None:
    refused(call("train", "quikstart"), "unknown recipe", "nearest: 'quickstart'", "`faceprint zoo` shows them all")
    code, message = call("train", "r50")
    assert code == 2
    assert "nearest: 'arcface_torch/r50'" in message
    assert len(message) < 400  # of 49 recipes, a few
    refused(call("train", "absent.yaml"), "absent.yaml", "cannot be read")
    refused(call("train", "quickstart", "optimizr.lr=1"), "unknown key 'optimizr'", "nearest: 'optimizer'")
    refused(call("train", "quickstart", "network.name=r5"), "unknown network 'r5'", "nearest: 'r50'", "list_models")
    refused(call("train", "quickstart", "steps"), "'steps'", "key=value")
    refused(call("zoo", "quikstart"), "nearest: 'quickstart'")
    assert list(tmp_path.iterdir()) == []


def test_run_folders(call: Call, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    refused(call(*TRAIN, "data.path=faces"), "run exists", "resume=true", "out=DIR")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]
    refused(call(*TRAIN, "data.path=faces", "resume=true"), "nothing to resume")
    refused(call(*TRAIN, "data.path=faces", "out=faces/a/a_0001.png/run"), "cannot be written", "out=DIR")


def test_models(call: Call, folder: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("path_a,path_b,same\na/a_0001.png,a/a_0002.png,1\na/a_0001.png,b/b_0001.png,0\n")
    arguments = ("pairs", f"images={folder}", f"pairs={pairs}")
    refused(call("eval", "absent.onnx", *arguments), "absent.onnx")
    (tmp_path / "text.onnx").write_text("not a network")
    refused(call("eval", "text.onnx", *arguments), "text.onnx")
    refused(call("eval", "faces", *arguments), "faces", "model.json")
    refused(call("export", "absent", "--output", "x.onnx"), "absent")
    refused(call("verify", "absent", "a.png", "b.png"), "absent")


def test_pairs_that_name_absent_images_are_all_listed(call: Call, folder: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("path_a,path_b,same\na/a_0001.png,a/x1.png,1\na/x2.png,b/b_0001.png,0\n")
    code, message = call("eval", "absent.onnx", "pairs", f"images={folder}", f"pairs={pairs}")
    assert code == 2
    assert "lacks 2 of the 4 images" in message
    for name in ("x1", "x2"):
        assert name in message


def test_protocols_and_options(call: Call, folder: Path) -> None:
    refused(call("eval", "m.onnx", "pars"), "unknown protocol 'pars'", "nearest: 'pairs'")
    refused(call("eval", "m.onnx", "pairs", "imges=x"), "'imges'", "nearest: 'images'")
    refused(call("bench", "train", "mbg"), "unknown network 'mbg'", "nearest: 'mbf'")
    refused(call("plot", "absent", "--output", "x.png"), "absent")
    refused(call("sweep", "quickstart", "optimizer.lr=0.1"), "nothing to search", "key=a,b,c")
    refused(call("sweep", "quickstart", "optimizer.lt=0.1,0.2"), "'optimizer.lt'", "nearest: 'optimizer.lr'")
    refused(call("bench", "train", "--baseline", "absent.json"), "absent.json")
    refused(call("data", "synthetic", "faces"), "faces", "exists")


def test_a_worker_that_dies_is_one_line_and_status_1(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object, **__: object) -> None:
        raise WorkerDied("worker 3 was killed: out of memory")

    monkeypatch.setattr("faceprint.data.check.check_source", die)
    monkeypatch.setattr("faceprint.data.align_folder.align_folder", die)
    monkeypatch.setattr("faceprint.data.detectors.choose_detector", lambda *_, **__: None)
    for command in (("check", "faces"), ("align", "faces", "crops")):
        code, message = call("data", *command)
        assert (code, message.strip()) == (1, "error: worker 3 was killed: out of memory")


def test_a_wrong_option_of_the_command_line_itself_is_status_2_too(call: Call) -> None:
    assert call("train")[0] == 2
    assert call("nonsense")[0] == 2
