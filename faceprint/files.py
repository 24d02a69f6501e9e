"""Files that are whole or not there."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from errno import EACCES
from pathlib import Path
from uuid import uuid4

from faceprint.errors import UserError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, its folders too, so that it is there whole or not at all. Raises `UserError`."""
    if not path.name:
        raise UserError(f"{path}: is a folder; give the name of a file")
    partial = path.with_name(f".{uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(data)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error


def make_folder(path: Path) -> None:
    """Make a folder that is to be written into, so that work whose results have no place is not begun. Raises
    `UserError`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(EACCES, "permission denied")
    except OSError as error:
        raise UserError(f"{path}: cannot be made or written to ({error.strerror or error})") from error


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file in UTF-8 with a header, whole or not at all. Raises `UserError`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode(errors="surrogateescape"))
