"""`manifest.json` of a run folder: what a run was made by and on, each time it was started."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from faceprint import __version__
from faceprint.cores import num_cores
from faceprint.distributed import world_size
from faceprint.errors import UserError
from faceprint.files import write_whole
from faceprint.training.trainer import Trainer

GIT_SECONDS = 10.0


def add_to_manifest(folder: Path, trainer: Trainer, *, seed: int, first_step: int) -> None:
    """Add an entry for this start of the run to `folder/manifest.json`.

    It has versions, hardware, data, seed, the git state of the working folder, command and time; names of users and
    machines are left out. Raises `UserError` for a file that is there and is no manifest.
    """
    path = folder / "manifest.json"
    entry = {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": hide_home(sys.argv),
        "first_step": first_step,
        "processes": world_size(),
        "seed": seed,
        "data_sha256": trainer.data_fingerprint,
        "num_images": trainer.plan.num_images,
        "num_classes": trainer.plan.num_classes,
        "versions": versions(),
        "hardware": hardware(),
        "git": git_state(Path.cwd()),
    }
    write_whole(path, (json.dumps({"starts": [*read_manifest(path), entry]}, indent=1) + "\n").encode())


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """The entries of a manifest, oldest first; empty where there is none."""
    if not path.exists():
        return []
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["starts"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a manifest of this program; move it away to go on") from error


def hide_home(words: list[str]) -> list[str]:
    """`words` with ~ for the home folder, whose name is a person's."""
    home = str(Path.home())
    return [word.replace(home, "~") if len(home) > 1 else word for word in words]


def versions() -> dict[str, str | None]:
    return {
        "faceprint": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def hardware() -> dict[str, Any]:
    return {
        "cpu": cpu_model(),
        "cores": num_cores(),
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
    }


def cpu_model() -> str:
    """Name of the processor, as Linux has it; what Python knows elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the repository that `folder` is in, and whether tracked files differ from it; None outside of one."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}


def _git(folder: Path, *arguments: str) -> str | None:
    # core.fsmonitor: a repository's own configuration could name a program to run.
    command = ["git", "-c", "core.fsmonitor=false", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=GIT_SECONDS)
    except (OSError, subprocess.SubprocessError):  # no git, no repository, no commit yet
        return None
    return done.stdout.strip()
