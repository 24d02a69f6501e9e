"""Lists that a person or `data clean` writes, of images and identities to keep or to leave out."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from itertools import islice
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
            given = {os.path.abspath(name): name for name in left}  # however the way to the set was spelled
            for index in range(len(source)):
                known = {source.stored_path(index), given.get(os.path.abspath(source.name(index)))} & self.names
                found[index] |= bool(known)
                left -= known
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
        text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from error
    header = [cell.strip().lower() for cell in text.partition("\n")[0].split(",")]
    columns = [column for column in _COLUMNS if column[0] in header]
    fitting = [column for column in columns if kind in (None, column[1])]
    if columns and not fitting:
        raise UserError(f"{file}: has the columns {', '.join(header)}, but none that names an {kind}")
    names = _column(file, text, header.index(fitting[0][0])) if fitting else text.split("\n")
    present = frozenset(name for name in map(str.strip, names) if name)
    if not present and not fitting:  # a table without rows says that there is nothing to name
        raise UserError(f"{file}: the list is empty")
    return NameList(file, present, fitting[0][1] if fitting else kind)


def _column(file: Path, text: str, number: int) -> list[str]:
    """What a table, below its header, has in that column. Raises `UserError`."""
    rows = csv.reader(io.StringIO(text), skipinitialspace=True)
    try:
        return [row[number] for row in islice(rows, 1, None) if len(row) > number]
    except csv.Error as error:
        raise UserError(f"{file}:{rows.line_num}: cannot be read as CSV ({error})") from error
