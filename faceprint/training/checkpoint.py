"""Checkpoints: everything that makes the next step the same, in one file a step, written whole or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch

from faceprint.errors import UserError

FORMAT = "faceprint-checkpoint/1"
_NAME = re.compile(r"step_(\d{9})\.pt")


def checkpoint_path(folder: Path, step: int) -> Path:
    return folder / f"step_{step:09d}.pt"


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], *, keep: int) -> Path:
    """Write `state` as the checkpoint of `step`, then delete all but the newest `keep`.

    The file appears under its name only when it is complete and on disk (write, fsync, rename).
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = checkpoint_path(folder, step)
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        torch.save({"format": FORMAT, "step": step, **state}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU. Only tensors and plain values are unpickled. Raises `UserError`."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may break the unpickler anywhere
        reason = str(error).split("\n")[0]
        raise UserError(
            f"{path}: not a readable checkpoint ({reason}); delete it to continue from the one before"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path}: not a checkpoint of this program (expected format {FORMAT!r})")
    return state
