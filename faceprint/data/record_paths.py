"""Paths of images from a `.lst`, without holding millions of them."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprint.data.read_at import read_at
from faceprint.errors import UserError

_MOST_LINES = 256  # bytes that most of them have
_LONGEST_LINE = 1 << 20


class RecordPaths:
    """`[row]` is the path that the `.lst` has for the `row`-th of `keys` (ascending); "" where it has none.

    Holds 8 bytes a key. Raises `UserError` for a list that cannot be read; a line without a key is passed over.
    """

    def __init__(self, file: Path, keys: NDArray[Any]) -> None:
        try:
            self._file = file.open("rb", buffering=0)
            listed, offsets = _lines(file)
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror or error})") from error
        self._offsets = np.full(len(keys), -1, np.int64)
        rows = np.searchsorted(keys, listed)
        known = rows < len(keys)
        known[known] = keys[rows[known]] == listed[known]
        self._offsets[rows[known]] = offsets[known]

    def __getitem__(self, row: int) -> str:
        if self._offsets[row] < 0:
            return ""
        piece = read_at(self._file.fileno(), _MOST_LINES, int(self._offsets[row]))
        if b"\n" not in piece:
            piece = read_at(self._file.fileno(), _LONGEST_LINE, int(self._offsets[row]))
        line = piece.partition(b"\n")[0]
        return line.rstrip(b"\r").rpartition(b"\t")[2].decode("utf-8", "surrogateescape")


def _lines(file: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Key and offset of each line."""
    keys, offsets, at = array("q"), array("q"), 0
    with file.open("rb") as lines:
        while line := lines.readline(_LONGEST_LINE):
            key = line[: line.find(b"\t")]
            if key.isdigit() and len(key) <= 18:
                keys.append(int(key))
                offsets.append(at)
            at += len(line)
    return np.array(keys, np.int64), np.array(offsets, np.int64)
