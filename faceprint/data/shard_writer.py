"""Writes tar shards in the WebDataset layout."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from faceprint.data.class_map import beside
from faceprint.data.shards import PATHS
from faceprint.data.tar import END_OF_ARCHIVE, make_member

SHARD_IMAGES = 8192
"""Of each shard but the last: some 60 MB of aligned faces."""


class ShardWriter:
    """A `SetWriter` of shards `00000.tar`, `00001.tar` … in the folder `path`, or of the one shard `path` (`.tar`).

    An image becomes NUMBER.jpg (or what its path ends in) and NUMBER.cls, byte for byte; `00000.paths.txt` beside a
    shard keeps the paths, one a line.
    """

    def __init__(self, path: Path, class_names: Sequence[str], labels: NDArray[np.int64]) -> None:
        self._path = path
        self._shard_images = sys.maxsize if path.suffix == ".tar" else SHARD_IMAGES
        self._count = len(labels)
        self._open(max(self._count - 1, 0) // self._shard_images, "ab")

    def write(self, data: bytes, label: int, path: str) -> None:
        if self._count and self._count % self._shard_images == 0:
            self.finish()
            self._open(self._count // self._shard_images, "wb")
        key = f"{self._count:09d}"
        self._shard.write(make_member(key + PurePosixPath(path).suffix.lower(), data))
        self._shard.write(make_member(f"{key}.cls", b"%d" % label))
        self._paths.write(path.encode("utf-8", "surrogateescape") + b"\n")
        self._count += 1

    def checkpoint(self) -> Mapping[str, int]:
        for file in (self._shard, self._paths):
            file.flush()
        return {Path(file.name).name: file.tell() for file in (self._shard, self._paths)}

    def finish(self) -> None:
        self._shard.write(END_OF_ARCHIVE)
        self.close()

    def close(self) -> None:
        self._files.close()

    def _open(self, number: int, mode: str) -> None:
        shard = self._path if self._path.suffix == ".tar" else self._path / f"{number:05d}.tar"
        with ExitStack() as stack:
            self._shard: BinaryIO = stack.enter_context(open(shard, mode))  # type: ignore[assignment]
            self._paths: BinaryIO = stack.enter_context(open(beside(shard, PATHS), mode))  # type: ignore[assignment]
            self._files = stack.pop_all()
