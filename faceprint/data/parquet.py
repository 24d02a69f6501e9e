"""Parquet files with encoded images, in the layout of Hugging Face datasets: a column `image`, a column of labels."""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from faceprint.data.extras import require
from faceprint.data.identities import number_identities
from faceprint.data.images import Image, ImageError, decode_image
from faceprint.data.storage import FAILURES, find_files, open_file
from faceprint.errors import UserError

LABEL_COLUMNS = ("identity", "label")
"""The column that says who an image shows is the first of these."""
MAX_GROUP_BYTES = 1 << 30
"""A row group is read whole: a larger one is refused."""
CACHE_BYTES = 1 << 28
"""Of row groups that a process keeps, beside the last one."""


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
        self._lock = threading.Lock()
        self._files: dict[int, Any] = {}
        self._groups: OrderedDict[tuple[int, int], Any] = OrderedDict()

    def read(self, file: int, group: int) -> Any:
        """The column of one row group, a pyarrow ChunkedArray."""
        if self._process != os.getpid():
            self._reset()
        with self._lock:
            return self._read(file, group)

    def _read(self, file: int, group: int) -> Any:
        key = (file, group)
        if key not in self._groups:
            self._groups[key] = self._open(file).read_row_group(group, [self.column], use_threads=False)[self.column]
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
    groups: Sequence[Group]
    storage: NDArray[np.int32]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    class_names: Sequence[str]
    skipped: Mapping[str, int] = field(default_factory=dict[str, int])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        return decode_image(self.encoded(index), name=self.name(index)), int(self.labels[index])

    def encoded(self, index: int) -> bytes:
        group = self.groups[self.storage[index]]
        try:
            value = self.reader.read(group.file, group.number)[int(self.rows[index]) - group.first].as_py()
        except FAILURES as error:
            raise ImageError(f"{self.name(index)}: cannot be read ({error})") from error
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise ImageError(f"{self.name(index)}: holds no image (paths in place of bytes are not followed)")
        return data

    def stored_path(self, index: int) -> str:
        """What stands in the column of images as `path`."""
        group = self.groups[self.storage[index]]
        paths = _paths_of(self.reader.paths[group.file], self.reader.column, group.number)
        return (paths[int(self.rows[index]) - group.first] if paths else None) or ""

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
    them; names are sorted. Raises `UserError` for files that are not of this layout, and needs the extra `parquet`.
    """
    paths = find_files(os.fspath(spec), ".parquet")
    groups: list[Group] = []
    sizes: list[int] = []
    columns: list[Any] = []
    stated: list[str] | None = None
    total = 0
    for number, path in enumerate(paths):
        file = open_parquet(path)
        column = _label_column(file.schema_arrow, label_column, path)
        _check_images(file.schema_arrow, image_column, path)
        first_of_file = total
        for group in range(file.metadata.num_row_groups):
            groups.append(Group(number, group, total, first_of_file))
            sizes.append(_group_rows(file, group, path))
            total += sizes[-1]
        try:
            columns.append(file.read([column], use_threads=False)[column])
        except FAILURES as error:
            raise UserError(f"{path}: its labels cannot be read ({error})") from error
        stated = stated or _stated_names(file.schema_arrow, column)
    codes, names, numbers = _codes(columns, paths)
    rows = np.flatnonzero(codes >= 0)
    if not len(rows):
        raise UserError(f"{spec}: no labelled images")
    if numbers and stated is not None and int(names[-1]) < len(stated):
        names = [stated[int(name)] for name in names]
    labels, class_names = number_identities(codes[rows], names, in_order=numbers)
    missing = len(codes) - len(rows)
    storage = np.repeat(np.arange(len(groups), dtype=np.int32), sizes)[rows]
    skipped = {"images without a label": missing} if missing else dict[str, int]()
    return ParquetSource(GroupReader(paths, image_column), groups, storage, rows, labels, class_names, skipped)


@lru_cache(maxsize=4)
def _paths_of(file: str, column: str, group: int) -> list[str | None]:
    """The `path` of each image of a row group, which is read without the images; none where there is no such field."""
    try:
        table = open_parquet(file).read_row_group(group, [f"{column}.path"], use_threads=False)
        return table[column].combine_chunks().field("path").to_pylist() if column in table.column_names else []
    except FAILURES as error:
        raise UserError(f"{file}: the paths of row group {group} cannot be read ({error})") from error


def open_parquet(path: str) -> Any:
    """A pyarrow ParquetFile. Raises `UserError` for a file that is none."""
    parquet = require("pyarrow.parquet", "parquet", "Parquet files")
    try:
        return parquet.ParquetFile(open_file(path), page_checksum_verification=True)
    except FAILURES as error:
        raise UserError(f"{path}: is no readable Parquet file ({error})") from error


def _label_column(schema: Any, wanted: str | None, path: str) -> str:
    for name in LABEL_COLUMNS if wanted is None else (wanted,):
        if name in schema.names:
            return name
    raise UserError(
        f"{path}: has no column {wanted or ' or '.join(LABEL_COLUMNS)}; there are {', '.join(schema.names)};"
        " choose by label_column"
    )


def _check_images(schema: Any, column: str, path: str) -> None:
    types: Any = require("pyarrow.types", "parquet", "Parquet files")
    kind = schema.field(column).type if column in schema.names else None
    if kind is not None and types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if kind is None or not (types.is_binary(kind) or types.is_large_binary(kind)):
        raise UserError(
            f"{path}: has no column {column!r} of encoded images, binary or a struct with `bytes`; there are"
            f" {', '.join(f'{field.name} ({field.type})' for field in schema)}; choose by image_column"
        )


def _group_rows(file: Any, group: int, path: str) -> int:
    told = file.metadata.row_group(group)
    if told.total_byte_size > MAX_GROUP_BYTES:
        raise UserError(
            f"{path}: row group {group} holds {told.total_byte_size:,} bytes, and each image would take reading all of"
            f" it; at most {MAX_GROUP_BYTES:,}. Write the file with smaller row groups"
        )
    return told.num_rows


def _codes(columns: Sequence[Any], paths: Sequence[str]) -> tuple[NDArray[np.int64], list[str], bool]:
    """For each row a place in the names, -1 where it has no label; the names; whether they are numbers, in order."""
    arrow: Any = require("pyarrow", "parquet", "Parquet files")
    types: Any = require("pyarrow.types", "parquet", "Parquet files")
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
