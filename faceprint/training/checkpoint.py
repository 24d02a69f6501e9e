"""Checkpoints: one folder a step, with everything that makes the next step the same.

    step_000001000/
      manifest.json                   written last: size and SHA-256 of every other file
      shared.pt                       what all processes share: network, optimiser, counters
      centres-FIRST-LAST.safetensors  class centres and their momentum, a range of classes a process
      rank-00000.pt                   random numbers and running moments of its own, one file a process

Each process writes its files into `step_….part`, in a thread of its own while the training goes on; when all are on
disk the first process adds the manifest and renames the folder. So a folder of the right name is complete, and what is
not complete has another name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import torch

from faceprint.data.model_files import file_sha256
from faceprint.distributed import by_first_rank, gather_objects, rank, world_size
from faceprint.errors import UserError
from faceprint.files import write_whole

FORMAT = "faceprint-checkpoint/3"
MANIFEST = "manifest.json"
SHARED = "shared.pt"
_NAME = re.compile(r"step_(\d{9})")

Pieces = Mapping[str, Callable[[Path], object]]
"""File name -> what writes that file to the path it is given."""
Receipt = dict[str, dict[str, Any]]
"""File name -> its size in bytes and SHA-256."""


class CheckpointError(UserError):
    """A checkpoint that is torn, altered or of another program; the message names the file."""


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir())


class CheckpointWriter:
    """Writes the checkpoints of one run into `folder`, one at a time. Every process has one and calls it alike.

    After each `publish` the newest `keep` remain, and besides them the one that was evaluated best. With `background`
    the files are written while the training goes on, and the pieces must be copies of what it changes.
    """

    def __init__(self, folder: Path, *, keep: int, background: bool) -> None:
        self.folder = folder
        self.keep = keep
        self._pool = ThreadPoolExecutor(1) if background else None
        self._pending: Future[Receipt] | None = None
        self._step = 0
        self._described: dict[str, Any] = {}

    @property
    def written(self) -> bool:
        """Whether this process has a checkpoint that waits for `publish`, its files written or failed."""
        return self._pending is not None and self._pending.done()

    @property
    def pending(self) -> bool:
        return self._pending is not None

    def start(self, step: int, pieces: Pieces, described: dict[str, Any]) -> None:
        """Begin to write `pieces`, this process's files. `described` goes into the manifest. None may be pending."""
        assert self._pending is None
        self._step, self._described = step, described
        if self._pool is not None:
            self._pending = self._pool.submit(_write, self._part, pieces)
            return
        self._pending = Future()
        try:
            self._pending.set_result(_write(self._part, pieces))
        except UserError as error:
            self._pending.set_exception(error)

    def publish(self) -> str | None:
        """Wait until all processes have written, then let the checkpoint appear. All must call it together.

        Returns None, or why there is none: what was written is removed, and the checkpoints before it stay.
        """
        assert self._pending is not None
        receipt, reason = None, None
        try:
            receipt = self._pending.result()
        except UserError as error:  # a full or dead disk must not end the training
            reason = f"rank {rank()}: {error}" if world_size() > 1 else str(error)
        self._pending = None
        outcomes = gather_objects((receipt, reason))
        reasons = [why for _, why in outcomes if why is not None]
        files: Receipt = {}
        for part, _ in outcomes:
            files.update(part or {})
        return by_first_rank(lambda: self._give_up(reasons[0]) if reasons else self._appear(files))

    @property
    def _part(self) -> Path:
        return self.folder / f"step_{self._step:09d}.part"

    def _appear(self, files: Receipt) -> str | None:
        manifest = {"format": FORMAT, "step": self._step, "processes": world_size(), **self._described, "files": files}
        final = self._part.with_suffix("")
        try:
            write_whole(self._part / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
            _to_disk(self._part / MANIFEST)
            _to_disk(self._part)
            if final.exists():  # a damaged one of this step, from which `resume=last_good` went back
                shutil.rmtree(final)
            self._part.rename(final)
            _to_disk(self.folder)
        except (OSError, UserError) as error:
            return self._give_up(str(error))
        self._prune()
        return None

    def _give_up(self, reason: str) -> str:
        shutil.rmtree(self._part, ignore_errors=True)
        return reason

    def _prune(self) -> None:
        saved = list_checkpoints(self.folder)
        for path in saved[: -self.keep]:
            if path != _best(saved):
                shutil.rmtree(path, ignore_errors=True)


def _best(saved: list[Path]) -> Path | None:
    """The checkpoint with the highest figure of its evaluation, the older of equal ones; None where none has one."""
    figures = {path: _figure(path) for path in saved}
    known = {path: figure for path, figure in figures.items() if figure is not None}
    return max(known, key=lambda path: known[path], default=None)


def _figure(path: Path) -> float | None:
    try:
        return read_manifest(path).get("figure")
    except CheckpointError:
        return None


def _write(part: Path, pieces: Pieces) -> Receipt:
    """Raises `UserError` for whatever goes wrong: torch and safetensors have errors of their own for a full disk."""
    try:
        return _write_pieces(part, pieces)
    except Exception as error:
        raise UserError(f"{part}: cannot be written ({str(error).splitlines()[0]})") from error


def _write_pieces(part: Path, pieces: Pieces) -> Receipt:
    part.mkdir(parents=True, exist_ok=True)
    receipt: Receipt = {}
    for name, write in pieces.items():
        write(part / name)
        _to_disk(part / name)
        receipt[name] = {"bytes": (part / name).stat().st_size, "sha256": file_sha256(part / name)}
    return receipt


def _to_disk(path: Path) -> None:
    """fsync, of a file or of a folder's entries."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def clear_unfinished(folder: Path) -> None:
    """Remove what a killed run left half-written."""
    for path in folder.glob("step_*.part"):
        shutil.rmtree(path, ignore_errors=True)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint. Raises `CheckpointError`."""
    file = path / MANIFEST
    try:
        content: object = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error})") from error
    manifest = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    if manifest.get("format") != FORMAT or not isinstance(manifest.get("files"), dict):
        raise CheckpointError(f"{file}: not of a checkpoint of this version (expected format {FORMAT!r})")
    return manifest


def check(path: Path) -> None:
    """Raise `CheckpointError` unless every file of the checkpoint is as it was written; processes share the work."""
    files = list(read_manifest(path)["files"].items())
    mistakes = [mistake for name, stated in files[rank() :: world_size()] if (mistake := _mistake(path / name, stated))]
    every = [mistake for part in gather_objects(mistakes) for mistake in part]
    if every:
        raise CheckpointError(f"{every[0]}; resume=last_good continues from the newest checkpoint that is whole")


def _mistake(file: Path, stated: Mapping[str, Any]) -> str | None:
    try:
        size = file.stat().st_size
        if size != stated["bytes"]:
            return f"{file}: torn, it has {size:,} bytes of {stated['bytes']:,}"
        if file_sha256(file) != stated["sha256"]:
            return f"{file}: altered, its SHA-256 is not the one it was written with"
    except (OSError, KeyError, TypeError) as error:
        return f"{file}: cannot be read ({error})"
    return None


def newest(folder: Path, *, last_good: bool) -> tuple[Path, list[str]]:
    """The checkpoint in `folder` to continue from, and what is wrong with newer ones.

    With `last_good` damaged ones are passed over, else the newest must be whole. Raises `CheckpointError`, and
    `UserError` where there is none.
    """
    saved = list_checkpoints(folder)
    if not saved:
        raise UserError(f"{folder.parent} has no checkpoint to resume from; remove the folder and start it again")
    mistakes: list[str] = []
    for path in reversed(saved):
        try:
            check(path)
        except CheckpointError as error:
            if not last_good:
                raise
            mistakes.append(str(error).partition(";")[0])
        else:
            return path, mistakes
    raise CheckpointError(f"{folder}: none of the {len(saved)} checkpoints is whole: {'; '.join(mistakes)}")


def load_part(file: Path) -> dict[str, Any]:
    """A `.pt` file of a checkpoint, on the CPU. Only tensors and plain values are unpickled."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may break the unpickler anywhere
        raise CheckpointError(f"{file}: cannot be read ({str(error).splitlines()[0]})") from error
