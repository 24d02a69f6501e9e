"""The small files beside a `.rec`: `.lst` and `property`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from faceprint.errors import UserError
from faceprint.files import write_whole

_LONGEST_LINE = 1 << 20
_NO_BREAKS = str.maketrans("\t\r\n", "   ")


class ListEntry(NamedTuple):
    """One line of a `.lst`: the key of a record, its labels, and the path of its image, as the writer called it."""

    key: int
    labels: tuple[float, ...]
    path: str


def read_lst(path: str | os.PathLike[str]) -> Iterator[ListEntry]:
    """The lines of a `.lst`, `key<TAB>label[<TAB>label …]<TAB>path`. Raises `UserError` naming a malformed one."""
    number, line = 0, ""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            while line := file.readline(_LONGEST_LINE):
                number += 1
                yield _list_entry(line.rstrip("\r\n"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except _Malformed as error:
        expected = "expected `key<TAB>label[<TAB>label …]<TAB>path` with numbers"
        raise UserError(f"{path}:{number}: {expected}, got {line[:80]!r}") from error


class _Malformed(Exception):
    pass


def _list_entry(line: str) -> ListEntry:
    fields = line.split("\t")
    key = fields[0]
    if len(fields) < 3 or not (key.isascii() and key.isdigit() and len(key) <= 18):
        raise _Malformed
    try:
        return ListEntry(int(key), tuple(map(float, fields[1:-1])), fields[-1])
    except ValueError as error:
        raise _Malformed from error


def format_lst(entry: ListEntry) -> str:
    """The line of a `.lst`, as im2rec writes it; tabs and line ends in the path become spaces."""
    labels = "\t".join(f"{label:f}" for label in entry.labels)
    return f"{entry.key}\t{labels}\t{entry.path.translate(_NO_BREAKS)}\n"


@dataclass(frozen=True)
class Property:
    """What the file `property` says of the set beside it: identities, and height and width of the images in pixels."""

    num_classes: int
    height: int
    width: int


def read_property(folder: str | os.PathLike[str]) -> Property | None:
    """The `property` in a folder, `num_classes,height,width`; None without one. Raises `UserError` for another text."""
    file = Path(folder) / "property"
    if not file.is_file():
        return None
    text = _read_text(file)
    numbers = re.fullmatch(r"\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*", text)
    if numbers is None:
        raise UserError(f"{file}: expected `num_classes,height,width`, got {text[:80]!r}")
    return Property(*map(int, numbers.groups()))


def write_property(folder: str | os.PathLike[str], value: Property) -> None:
    """Write the `property` of the set in a folder. Raises `UserError`."""
    write_whole(Path(folder) / "property", f"{value.num_classes},{value.height},{value.width}".encode())


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
