"""Writes an image folder: one folder an identity, a file an image."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class FolderWriter:
    """A `SetWriter` of image folders. A file is there whole or not at all, so a new writer goes on anywhere."""

    def __init__(self, path: Path, class_names: Sequence[str], labels: NDArray[np.int64]) -> None:
        self._folder = path
        self._next = path / ".next"

    def write(self, data: bytes, label: int, path: str) -> None:
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        self._next.write_bytes(data)
        os.replace(self._next, target)

    def checkpoint(self) -> Mapping[str, int]:
        return {}

    def finish(self) -> None:
        self._next.unlink(missing_ok=True)  # of a run that was killed

    def close(self) -> None: ...
