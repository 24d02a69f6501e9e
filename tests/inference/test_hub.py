"""Models of a hub: what is asked for, what is found in the cache without a network, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import faceprint
from faceprint.errors import UserError
from faceprint.inference.hub import local_model
from faceprint.inference.model_folder import ModelCard, save_model
from faceprint.models import create_model

hub = pytest.importorskip("huggingface_hub")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, without a network: what is asked of the internet fails at once."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for module in ("_snapshot_download", "file_download"):
        monkeypatch.setattr(f"huggingface_hub.{module}.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def stored(cache: Path, name: str) -> Path:
    """The folder of a repository in the cache, as its client lays it out."""
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    return repository / "snapshots" / COMMIT


def saved(folder: Path) -> Any:
    torch.manual_seed(0)
    network = create_model("mbf", embedding_dim=16, image_size=(112, 112), scale=1, width=0.125).eval()
    card = ModelCard(architecture="mbf", options={"scale": 1, "width": 0.125}, embedding_dim=16, licence="MIT")
    save_model(folder, network, card)
    return network


@pytest.mark.parametrize("name", ["hf://own-er/net.1", "own-er/net.1", "hf://own-er/net.1@main"])
def test_a_model_that_was_fetched_before(cache: Path, tmp_path: Path, name: str) -> None:
    folder = stored(cache, "own-er/net.1")
    saved(tmp_path / "saved")
    for file in (tmp_path / "saved").iterdir():
        shutil.copy(file, folder)
    image = np.full((112, 112, 3), 90, np.uint8)
    found = faceprint.load(name).embed([image])
    assert found.tolist() == faceprint.load(tmp_path / "saved").embed([image]).tolist()


def test_files_of_a_repository(cache: Path) -> None:
    folder = stored(cache, "a/b")
    (folder / "x.onnx").write_bytes(b"x")
    assert local_model("hf://a/b") == folder / "x.onnx"
    (folder / "y.pth").write_bytes(b"y")
    assert local_model("hf://a/b/y.pth") == folder / "y.pth"
    with pytest.raises(UserError, match=r"has x.onnx, y.pth; name one file"):
        local_model("hf://a/b")
    (folder / "arcface_torch").mkdir()  # models of several recipes
    assert local_model("hf://a/b") == folder


def test_what_is_not_there(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"hf://a/c: cannot be fetched from the hub .* give a file or folder"):
        local_model("hf://a/c")
    for wrong in ("hf://a", "hf://", "hf://a/b/../c", "hf:///etc/passwd", "hf://a b/c"):
        with pytest.raises(UserError, match="names no model of the hub"):
            local_model(wrong)
    asked: list[Any] = []
    monkeypatch.setattr(hub, "snapshot_download", lambda **options: asked.append(options) or str(cache))
    for path in ("runs/first/model", "a.onnx", "runs/a.onnx", "/runs/first", "runs"):
        assert local_model(path) == Path(path)
    assert asked == []
    local_model("runs/first")
    assert [each["local_files_only"] for each in asked] == [True]  # a mistyped path asks nobody


def test_a_path_that_is_there_is_that(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(cache, "runs/first")
    (tmp_path / "runs" / "first").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert local_model("runs/first") == Path("runs/first")


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"faceprint\[hub\]"):
        local_model("hf://a/b")
    assert local_model("a/b") == Path("a/b")
