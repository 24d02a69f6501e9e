"""A million names without a million Python strings."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from faceprint.errors import UserError


class Names(Sequence[str]):
    """The lines of a UTF-8 text, each made into a string when it is asked for.

    `text` may be bytes or a memory map; every line ends in a line feed. Bytes that are not UTF-8 come through as
    Python's file names have them (surrogateescape).
    """

    def __init__(self, text: bytes | mmap.mmap) -> None:
        self._text = text

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.flatnonzero(np.frombuffer(self._text, np.uint8) == ord("\n"))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        start = int(self._ends[number - 1]) + 1 if number else 0
        return self._text[start : int(self._ends[number])].decode(errors="surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return iter(self._text[:].decode(errors="surrogateescape").split("\n")[:-1])


def encode_names(names: Iterable[str]) -> bytes:
    """What `Names` reads. Raises `UserError` for a name with a line feed in it."""
    lines: list[bytes] = []
    for number, name in enumerate(names):
        if "\n" in name:
            raise UserError(f"name {number} has a line feed in it: {name[:100]!r}; rename the image")
        lines.append(name.encode(errors="surrogateescape"))
    return b"".join(line + b"\n" for line in lines)


def open_names(path: Path) -> Names:
    """The names in a file, memory-mapped. Raises `UserError` where it cannot be read or its last line has no end."""
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
            text = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    if text and text[-1:] != b"\n":
        raise UserError(f"{path}: ends in the middle of a name")
    return Names(text)
