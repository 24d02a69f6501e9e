from __future__ import annotations

import getpass
import json
import platform
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import faceprint
from faceprint.config import Config
from faceprint.errors import UserError
from faceprint.training.manifest import git_state, hide_home
from faceprint.training.sources import fingerprint

Tiny = Callable[..., Config]
Trained = Callable[[Config], Any]


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_each_start_of_a_run_is_in_its_manifest(
    tiny: Tiny, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["faceprint", "train", "x", f"data.path={Path.home()}/faces"])
    monkeypatch.chdir(tmp_path)
    run, _, _ = trained(tiny("seed=7", "steps=2", "out=run"))
    trained(tiny("seed=7", "steps=2", "out=run", "resume=true"))
    text = (tmp_path / "run" / "manifest.json").read_text()
    first, second = json.loads(text)["starts"]
    assert (first["first_step"], second["first_step"]) == (0, 2)
    assert {key: first[key] for key in first if key not in ("started", "first_step")} == {
        key: second[key] for key in second if key not in ("started", "first_step")
    }
    assert first["data_sha256"] == fingerprint(run.trainer.source)
    assert (first["seed"], first["processes"], first["num_classes"], first["git"]) == (7, 1, 6, None)
    assert first["versions"]["torch"] == torch.__version__
    assert first["versions"]["numpy"] == np.__version__
    assert first["versions"]["faceprint"] == faceprint.__version__
    assert first["versions"]["python"] == platform.python_version()
    assert first["hardware"]["cores"] >= 1
    assert first["hardware"]["cpu"]
    assert first["command"][-1] == "data.path=~/faces"
    assert socket.gethostname() not in text
    assert getpass.getuser() not in text


def test_the_home_folder_is_not_named() -> None:
    assert hide_home([f"out={Path.home()}/runs/a", "steps=3"]) == ["out=~/runs/a", "steps=3"]


def test_git_state(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) is None  # no commit yet
    (tmp_path / "file").write_text("a")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "new").write_text("what a run writes is not a change")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_state(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "file").write_text("b")
    assert git_state(tmp_path) == {"commit": commit, "dirty": True}


def test_a_file_that_is_no_manifest_is_said(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    trained(tiny("steps=2"))
    (tmp_path / "run" / "manifest.json").write_text("[1]")
    with pytest.raises(UserError, match="not a manifest"):
        trained(tiny("steps=2", "resume=true"))
