"""The ways a labelled set lies on disk, and how each is recognised, opened and written."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from faceprint.data.folder import image_folder
from faceprint.data.folder_writer import FolderWriter
from faceprint.data.landmarks import PARQUET as LANDMARKS
from faceprint.data.lists import image_list
from faceprint.data.parquet import ParquetWriter, parquet_source
from faceprint.data.record_source import RecordSource, is_record_set
from faceprint.data.shards import ShardWriter, shard_source
from faceprint.data.source import Source
from faceprint.data.storage import is_pattern, is_url, list_files
from faceprint.data.write_records import RecordSetWriter
from faceprint.errors import UserError
from faceprint.registry import Table


class SetWriter(Protocol):
    """Writes one set, image by image, in order; `Format.create` makes it.

    It writes into a folder of its own that takes its final name only after `finish`: a writer renames nothing, and
    needs no temporary files. The class map and the manifest are written by who drives it.
    """

    def write(self, data: bytes, label: int, path: str) -> None:
        """Add one encoded image of identity `label`, byte for byte.

        `path` is unique in the set, relative, with forward slashes, safe as a file name, `IDENTITY/IMAGE.jpg`.
        """
        ...

    def checkpoint(self) -> Mapping[str, int] | None:
        """Hand all that was written to the system, and say how to go on from here: the length in bytes of each file
        that later writes append to, by its name relative to the writer's folder ({} where there is none).

        None where a new writer could not go on from here, such as in the middle of a shard; an earlier point is then
        kept. Called every thousand images or so.
        """
        ...

    def finish(self) -> None:
        """Write what stands at the end and close all files: the set is complete."""
        ...

    def close(self) -> None:
        """Close all files, finished or not; a second call does nothing."""
        ...


@dataclass(frozen=True)
class Format:
    """One row of `FORMATS`.

    `recognises(path)` looks at the path and what is there, without reading a whole file. `create(path, class_names,
    labels)` starts a set at `path`, whose folder exists, or goes on with one: `labels` (N,) are those of the N images
    that it holds already, none for a new set; the files are then as the last `checkpoint` stated, and whatever was
    written behind it that is no such file is to be overwritten. `create` is None where sets of this kind are only
    read. A new set whose name ends in `suffix` is of this kind, and one file; any other name is that of a folder, in
    which the file `main` is the set, or the whole folder where there is no such name. A set in one file brings the
    files `beside` it, where * stands for its name without suffix. `ordered`: the images are read in the order in which
    they were written.
    """

    recognises: Callable[[Path], bool]
    open: Callable[[str | os.PathLike[str]], Source]
    create: Callable[[Path, Sequence[str], NDArray[np.int64]], SetWriter] | None = None
    suffix: str = ""
    main: str = ""
    beside: tuple[str, ...] = ()
    ordered: bool = True


PARTIAL = ".partial"
"""Ends the name of the folder that a set is written in, until it is finished."""


def _holds(path: Path, suffix: str) -> bool:
    """Whether `path` is a file, or a folder with a file in it, that ends in `suffix`; a table beside crops is none."""
    if not path.is_dir():
        return path.name.endswith(suffix)
    return any(file.name.endswith(suffix) and file.name != LANDMARKS for file in path.iterdir())


LIST_SUFFIXES = (".lst", ".txt", ".csv", ".tsv")

FORMATS: Table[Format] = Table(
    "data format",
    [
        ("list", Format(lambda path: path.suffix.lower() in LIST_SUFFIXES, image_list)),
        (
            "record",
            Format(
                is_record_set,
                RecordSource,
                RecordSetWriter,
                suffix=".rec",
                main="train.rec",
                beside=("*.idx", "*.lst", "property"),
            ),
        ),
        ("shards", Format(lambda path: _holds(path, ".tar"), shard_source, ShardWriter, suffix=".tar")),
        ("parquet", Format(lambda path: _holds(path, ".parquet"), parquet_source, ParquetWriter, suffix=".parquet")),
        # last: other kinds are folders too
        ("folder", Format(lambda path: path.is_dir(), image_folder, FolderWriter, ordered=False)),
    ],
)


def open_source(path: str | os.PathLike[str], kind: str | None = None) -> Source:
    """The labelled set at `path`, of the `kind` given, else of the first of `FORMATS` that recognises it.

    Raises `UserError` where there is nothing, no format recognises it, or the one that does cannot read it.
    """
    where = Path(path)
    found = recognise(path) if kind is None else kind
    if os.path.exists(where) and PARTIAL in (where.suffix, where.parent.suffix):
        raise UserError(f"{where}: is not finished; repeat the command that writes it, and it goes on")
    with _asking(where):
        return FORMATS[found].open(path)


def recognise(path: str | os.PathLike[str]) -> str:
    """Name of the first of `FORMATS` that recognises `path`. Raises `UserError` where there is none."""
    where, text = Path(path), os.fspath(path)
    if is_url(text):
        return _recognise_url(text)
    with _asking(where):
        if not where.exists() and not is_pattern(text):
            raise UserError(f"{where}: no such file or folder")
        for name, row in FORMATS.items():
            if row.recognises(where):
                return name
    raise UserError(
        f"{where}: is of no known format; known are {', '.join(FORMATS)}. Unpack a compressed archive first"
    )


@contextmanager
def _asking(path: Path) -> Generator[None]:
    """What the system refuses, such as a folder of somebody else's, is a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from error


def _recognise_url(url: str) -> str:
    """Sets elsewhere are shards or Parquet, by what the URL ends in, or what the files in that folder do."""
    rows = {name: FORMATS[name] for name in ("shards", "parquet")}
    named = (name for name, row in rows.items() if url.endswith(row.suffix))
    holding = (name for name, row in rows.items() if list_files(url, row.suffix))
    found = next(chain(named, holding), None)
    if found is None:
        raise UserError(f"{url}: is of no known format; a URL is that of .tar or .parquet files, or of their folder")
    return found
