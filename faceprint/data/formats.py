"""The ways a labelled set lies on disk, and how each is recognised, opened and written."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from faceprint.data.folder import image_folder
from faceprint.data.lists import image_list
from faceprint.data.record_source import RecordSource, is_record_set
from faceprint.data.source import Source
from faceprint.data.write_records import RecordSetWriter
from faceprint.errors import UserError
from faceprint.registry import Table


class SetWriter(Protocol):
    """Writes one set, image by image. Nothing that looks like a finished set is there before `finish`."""

    def write(self, data: bytes, label: int, name: str) -> None:
        """Add one encoded image of identity `label`, byte for byte; `name` is what the source calls it."""
        ...

    def finish(self) -> None: ...


@dataclass(frozen=True)
class Format:
    """One row: `recognises(path)` from the path and what is there, without reading a whole file; `create(path,
    class_names)` starts a new set, None where sets of this kind are only read."""

    recognises: Callable[[Path], bool]
    open: Callable[[Path], Source]
    create: Callable[[Path, Sequence[str]], SetWriter] | None = None


LIST_SUFFIXES = (".lst", ".txt", ".csv", ".tsv")

FORMATS: Table[Format] = Table(
    "data format",
    [
        ("list", Format(lambda path: path.suffix.lower() in LIST_SUFFIXES, image_list)),
        ("record", Format(is_record_set, RecordSource, RecordSetWriter)),
        ("folder", Format(lambda path: path.is_dir(), image_folder)),  # last: other kinds are folders too
    ],
)


def open_source(path: str | os.PathLike[str], kind: str | None = None) -> Source:
    """The labelled set at `path`, of the `kind` given, else of the first of `FORMATS` that recognises it.

    Raises `UserError` where there is nothing, no format recognises it, or the one that does cannot read it.
    """
    where = Path(path)
    if kind is not None:
        return FORMATS[kind].open(where)
    if not where.exists():
        raise UserError(f"{where}: no such file or folder")
    for row in FORMATS.values():
        if row.recognises(where):
            return row.open(where)
    raise UserError(f"{where}: is of no known format; known are {', '.join(FORMATS)}, chosen by format=NAME")
