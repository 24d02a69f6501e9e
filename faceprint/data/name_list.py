"""Lists that a person or `data clean` writes, of images and identities to keep or to leave out."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from faceprint.data.source import Source
from faceprint.errors import UserError

Kind = Literal["identity", "image"]

_COLUMNS: tuple[tuple[str, Kind], ...] = (("path", "image"), ("image", "image"), ("identity", "identity"))
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class NameList:
    """`names` from `file`: of identities, of images (paths within a set, or what messages call them), or either."""

    file: Path
    names: frozenset[str]
    kind: Kind | None

    def among(self, source: Source) -> NDArray[np.bool_]:
        """bool (N,): which images of `source` are listed, or have a listed identity. Raises `UserError` for names
        that the set has not."""
        found = np.zeros(len(source), bool)
        left = set(self.names)
        if self.kind != "image":
            listed = np.array([name in self.names for name in source.class_names], bool)
            found |= listed[source.labels]
            left.difference_update(source.class_names)
        if self.kind != "identity" and left:
            known = [{source.stored_path(index), source.name(index)} & self.names for index in range(len(source))]
            found |= np.array([bool(names) for names in known], bool)
            left.difference_update(*known)
        if left:
            shown = ", ".join(sorted(left)[:_NAMES_SHOWN]) + (", …" if len(left) > _NAMES_SHOWN else "")
            raise UserError(f"{self.file}: {len(left)} of {len(self.names)} names are not in the set: {shown}")
        return found


def read_name_list(path: str | os.PathLike[str], kind: Kind | None = None) -> NameList:
    """A list of identities or images: plain text, one name a line, or CSV with a header.

    Of CSV the column `path` (or `image`) is read, or else `identity`; for `kind` "identity" that column alone. Lines
    of plain text are what `kind` says; for None each may be either. A table may have no rows. Raises `UserError` for a
    file that cannot be read, is empty, or has no such column.
    """
    file = Path(path)
    try:
        lines = file.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from error
    header = [cell.strip().lower() for cell in lines[0].split(",")] if lines else []
    columns = [column for column in _COLUMNS if column[0] in header]
    fitting = [column for column in columns if kind in (None, column[1])]
    if columns and not fitting:
        raise UserError(f"{file}: has the columns {', '.join(header)}, but none that names an {kind}")
    names = _column(lines, header.index(fitting[0][0])) if fitting else [line.strip() for line in lines]
    present = frozenset(name for name in names if name)
    if not present and not fitting:  # a table without rows says that there is nothing to name
        raise UserError(f"{file}: the list is empty")
    return NameList(file, present, fitting[0][1] if fitting else kind)


def _column(lines: list[str], number: int) -> list[str]:
    return [row[number].strip() for row in csv.reader(lines[1:], skipinitialspace=True) if len(row) > number]
