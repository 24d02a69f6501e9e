"""Parquet files with encoded images, in the layout of Hugging Face datasets: a column `image`, a column of labels."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from faceprint.data.class_map import read_class_names
from faceprint.data.digest import PART
from faceprint.data.extras import require
from faceprint.data.identities import number_identities
from faceprint.data.images import Image, ImageError, decode_image
from faceprint.data.source import ImageName
from faceprint.data.storage import describe_file, find_files, open_file, reading
from faceprint.errors import UserError

LABEL_COLUMNS = ("identity", "label")
"""The column that says who an image shows is the first of these."""
MAX_GROUP_BYTES = 1 << 30
"""A row group is read whole: a larger one is refused."""
FILE_IMAGES = 8 * PART
"""Of a file that is written: a multiple of what is between checkpoints, at which a run can go on."""
GROUP_IMAGES = 128
MAX_STATED_NAMES = 10_000
"""Identities whose names each file states; those of millions would be as long as the images."""
CACHE_BYTES = 1 << 28
"""Of row groups that a process keeps, beside the last one."""

_NOT_UTF8 = re.compile("[\ud800-\udfff]")
"""What stands in a path for a byte that is not UTF-8, which Arrow's text cannot hold."""


class Group(NamedTuple):
    """A row group: the number of its file, its number there, and the first rows of both, counted over the set."""

    file: int
    number: int
    first: int
    first_of_file: int


class GroupReader:
    """The image columns of row groups, the last few kept. Each process opens its own files."""

    def __init__(self, paths: Sequence[str], column: str) -> None:
        self.paths, self.column = paths, column
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._files: dict[int, Any] = {}
        self._groups: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, file: int, group: int) -> Any:
        """The column of one row group, a pyarrow ChunkedArray. Raises what `reading` takes."""
        if self._process != os.getpid():
            self._reset()
        key = (file, group)
        with self._lock:
            if key not in self._groups:
                self._groups[key] = self._open(file).read_row_group(group, [self.column], use_threads=False).column(0)
                while len(self._groups) > 1 and sum(column.nbytes for column in self._groups.values()) > CACHE_BYTES:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(key)
            return self._groups[key]

    def _open(self, file: int) -> Any:
        if file not in self._files:
            self._files = {file: open_parquet(self.paths[file])}
        return self._files[file]

    def __getstate__(self) -> tuple[Sequence[str], str]:
        return self.paths, self.column

    def __setstate__(self, state: tuple[Sequence[str], str]) -> None:
        self.paths, self.column = state
        self._reset()


@dataclass(frozen=True)
class ParquetSource:
    """A `Source` over Parquet files. `storage[i]` is the row group of image i, `rows[i]` its row in the set.

    An image is read with its row group: orders that keep to few of them at a time are much quicker. `skipped` counts
    the rows without a label, which are passed over.
    """

    reader: GroupReader
    paths: GroupReader | None
    """Reads what the images are called, without them; None where they have no names."""
    groups: Sequence[Group]
    storage: NDArray[np.int32]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    class_names: Sequence[str]
    skipped: Mapping[str, int] = field(default_factory=dict[str, int])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        return decode_image(self.encoded(index), name=ImageName(self, index)), int(self.labels[index])

    def encoded(self, index: int) -> bytes:
        value = self._value(self.reader, index)
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise ImageError(f"{self.name(index)}: holds no image (paths in place of bytes are not followed)")
        return data

    def stored_path(self, index: int) -> str:
        value = None if self.paths is None else self._value(self.paths, index)
        path = value.get("path") if isinstance(value, dict) else None
        return path if isinstance(path, str) else ""

    def _value(self, reader: GroupReader, index: int) -> Any:
        group = self.groups[self.storage[index]]
        with reading(self.name(index), ImageError):
            return reader.read(group.file, group.number)[int(self.rows[index]) - group.first].as_py()

    def name(self, index: int) -> str:
        """The file, and the row in it, from 0."""
        group = self.groups[self.storage[index]]
        return f"{self.reader.paths[group.file]}: row {int(self.rows[index]) - group.first_of_file}"


def parquet_source(
    spec: str | os.PathLike[str], *, image_column: str = "image", label_column: str | None = None
) -> ParquetSource:
    """The images of the Parquet files that `spec` means (see `find_files`).

    `image_column` holds encoded images, binary or a struct with `bytes`; `label_column` whole numbers or names (None:
    `identity`, else `label`). Numbers keep their order and take their names from Hugging Face's metadata where it has
    them, else from a class map beside the first file; names are sorted. Raises `UserError` for files that are not of
    this layout, and needs the extra `parquet`.
    """
    paths = find_files(os.fspath(spec), ".parquet")
    groups: list[Group] = []
    sizes: list[int] = []
    columns: list[Any] = []
    stated: list[str] | None = None
    total, with_paths = 0, True
    for number, path in enumerate(paths):
        file = open_parquet(path)
        column = _label_column(file.schema_arrow, label_column, path)
        with_paths = _check_images(file.schema_arrow, image_column, path) and with_paths
        first_of_file = total
        for group in range(file.metadata.num_row_groups):
            groups.append(Group(number, group, total, first_of_file))
            sizes.append(_group_rows(file, group, path))
            total += sizes[-1]
        _check_rows(total - first_of_file, path)
        with reading(f"{path}: column {column}"):
            columns.append(file.read([column], use_threads=False)[column])
        stated = stated or _stated_names(file.schema_arrow, column)
    with reading(f"{spec}: labels"):
        codes, names, numbers = _codes(columns, paths)
    rows = np.flatnonzero(codes >= 0)
    if not len(rows):
        raise UserError(f"{spec}: no labelled images")
    stated = stated or (read_class_names(paths[0]) if numbers else None)
    if numbers and stated is not None and int(names[-1]) < len(stated):
        names = [stated[int(name)] for name in names]
    labels, class_names = number_identities(codes[rows], names, in_order=numbers)
    missing = len(codes) - len(rows)
    storage = np.repeat(np.arange(len(groups), dtype=np.int32), sizes)[rows]
    skipped = {"images without a label": missing} if missing else dict[str, int]()
    names_reader = GroupReader(paths, f"{image_column}.path") if with_paths else None
    return ParquetSource(
        GroupReader(paths, image_column), names_reader, groups, storage, rows, labels, class_names, skipped
    )


def open_parquet(path: str) -> Any:
    """A pyarrow ParquetFile. Raises `UserError` for a file that is none."""
    parquet = require("pyarrow.parquet", "parquet", "Parquet files")
    with reading(f"{path} as a Parquet file"):
        return parquet.ParquetFile(open_file(path), page_checksum_verification=True)


def _label_column(schema: Any, wanted: str | None, path: str) -> str:
    for name in LABEL_COLUMNS if wanted is None else (wanted,):
        if name in schema.names:
            return name
    raise UserError(
        f"{path}: has no column {wanted or ' or '.join(LABEL_COLUMNS)}; there are {', '.join(schema.names)};"
        " choose by label_column"
    )


def _check_images(schema: Any, column: str, path: str) -> bool:
    """Raise `UserError` unless `column` holds encoded images; returns whether they have paths."""
    types: Any = require("pyarrow.types", "parquet", "Parquet files")
    kind = schema.field(column).type if schema.names.count(column) == 1 else None
    with_paths = False
    if kind is not None and types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        with_paths = kind.get_field_index("path") >= 0
        kind = kind.field("bytes").type
    if kind is None or not (types.is_binary(kind) or types.is_large_binary(kind)):
        raise UserError(
            f"{path}: has no column {column!r} of encoded images, binary or a struct with `bytes`; there are"
            f" {', '.join(f'{field.name} ({field.type})' for field in schema)}; choose by image_column"
        )
    return with_paths


def _group_rows(file: Any, group: int, path: str) -> int:
    told = file.metadata.row_group(group)
    if told.total_byte_size > MAX_GROUP_BYTES:
        raise UserError(
            f"{path}: row group {group} holds {told.total_byte_size:,} bytes, and each image would take reading all of"
            f" it; at most {MAX_GROUP_BYTES:,}. Write the file with smaller row groups"
        )
    return told.num_rows


def _check_rows(rows: int, path: str) -> None:
    """Raise `UserError` for more rows than bytes: equal labels take no space in a file, but much in memory."""
    size, _ = describe_file(path)
    if rows > size:
        raise UserError(f"{path}: claims {rows:,} images in {size:,} bytes; it holds none, or is damaged")


def _codes(columns: Sequence[Any], paths: Sequence[str]) -> tuple[NDArray[np.int64], list[str], bool]:
    """For each row a place in the names, -1 where it has no label; the names; whether they are numbers, in order."""
    arrow: Any = require("pyarrow", "parquet", "Parquet files")
    types: Any = require("pyarrow.types", "parquet", "Parquet files")
    columns = [
        column.cast(column.type.value_type) if types.is_dictionary(column.type) else column for column in columns
    ]  # so a categorical column of pandas comes
    numbers = types.is_integer(columns[0].type)
    for column, path in zip(columns, paths, strict=True):
        plain = types.is_integer(column.type) or types.is_string(column.type) or types.is_large_string(column.type)
        if not plain or types.is_integer(column.type) != numbers:
            raise UserError(f"{path}: labels are of type {column.type}; expected whole numbers or names, in all files")
    kind = arrow.int64() if numbers else arrow.large_string()
    whole = arrow.chunked_array([chunk.cast(kind) for column in columns for chunk in column.chunks], kind)
    encoded = whole.dictionary_encode().combine_chunks()
    values = encoded.dictionary.to_pylist()
    codes = encoded.indices.cast(arrow.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    order = sorted(range(len(values)), key=lambda place: values[place])
    rank = np.full(len(values) + 1, -1, np.int64)  # the last one is for -1
    rank[order] = np.arange(len(values))
    return rank[codes], [str(values[place]) for place in order], numbers


def _stated_names(schema: Any, column: str) -> list[str] | None:
    """The names of a ClassLabel in the metadata that Hugging Face datasets writes."""
    try:
        told = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return told if isinstance(told, list) and all(isinstance(name, str) for name in told) else None


class ParquetWriter:
    """A `SetWriter` of Parquet files that Hugging Face datasets shows as images.

    They are `train-00000.parquet` … in the folder `path`, of `FILE_IMAGES` each, or the one file `path`, whose name
    ends in `.parquet`. Columns `image` (struct of bytes and path) and `label` (int64, a ClassLabel with the names where
    there are at most 10,000; others are in the class map alone).
    Images are stored byte for byte, not compressed again.
    """

    def __init__(self, path: Path, class_names: Sequence[str], labels: NDArray[np.int64]) -> None:
        self._schema = hugging_face_schema(class_names)
        self._path = path
        self._file_images = sys.maxsize if path.suffix == ".parquet" else FILE_IMAGES
        self._rows: list[tuple[bytes, int, str]] = []
        self._count = len(labels)
        self._writer: Any = None

    def write(self, data: bytes, label: int, path: str) -> None:
        if self._writer is None:
            self._writer = self._new_file()
        self._rows.append((data, label, _NOT_UTF8.sub(lambda found: f"%{ord(found[0]) & 0xFF:02X}", path)))
        self._count += 1
        if len(self._rows) == GROUP_IMAGES:
            self._flush()
        if self._count % self._file_images == 0:
            self._end_file()

    def checkpoint(self) -> Mapping[str, int] | None:
        return {} if self._writer is None else None  # what a Parquet file holds is known at its end only

    def finish(self) -> None:
        self._end_file()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _new_file(self) -> Any:
        parquet: Any = require("pyarrow.parquet", "parquet", "Parquet files")
        number = self._count // self._file_images
        return parquet.ParquetWriter(
            self._path if self._path.suffix == ".parquet" else self._path / f"train-{number:05d}.parquet",
            self._schema,
            compression="none",  # images are compressed already
            use_dictionary=False,
            write_page_checksum=True,
        )

    def _flush(self) -> None:
        arrow: Any = require("pyarrow", "parquet", "Parquet files")
        images = [{"bytes": data, "path": path} for data, _, path in self._rows]
        labels = [label for _, label, _ in self._rows]
        table = arrow.Table.from_pydict({"image": images, "label": labels}, schema=self._schema)
        self._writer.write_table(table, row_group_size=GROUP_IMAGES)
        self._rows.clear()

    def _end_file(self) -> None:
        if self._rows:
            self._flush()
        self.close()


def hugging_face_schema(class_names: Sequence[str]) -> Any:
    """The Arrow schema, with the metadata by which Hugging Face datasets knows images and, where they are not too many,
    names."""
    arrow: Any = require("pyarrow", "parquet", "Parquet files")
    stated = {"names": list(class_names), "_type": "ClassLabel"}
    plain = {"dtype": "int64", "_type": "Value"}
    features = {"image": {"_type": "Image"}, "label": stated if len(class_names) <= MAX_STATED_NAMES else plain}
    image = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return arrow.schema([("image", image), ("label", arrow.int64())], metadata)
