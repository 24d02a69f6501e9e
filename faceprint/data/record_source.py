"""Labelled sets in RecordIO files, of both flavours.

InsightFace: record 0 is empty and has the labels (a, b); images are keys 1 … a - 1; keys a … b - 1 are empty records,
one an identity, whose two labels are the half-open key range of its images. Plain im2rec: every record is an image.
In both the first label of an image is its identity.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from faceprint.data.array_cache import Arrays, cached_arrays
from faceprint.data.class_map import CLASS_MAP, beside, read_class_map
from faceprint.data.images import Image, ImageError, decode_image
from faceprint.data.record_files import read_lst
from faceprint.data.record_paths import RecordPaths
from faceprint.data.recordio import MAGIC, MAX_PAYLOAD, PART, Record, RecordReader
from faceprint.data.source import ImageName
from faceprint.errors import UserError

MAX_LABELS = 1 << 24
"""Labels are float32 in the file: from here on neighbours are one number."""

_MAX_KEY = 1 << 40
_ROWS_AT_ONCE = 1 << 16


class RecordSource:
    """The images of a `.rec` file as a `Source`; image `i` is the one with the i-th smallest key.

    `path` is the file, or a folder that holds `train.rec`. Identities are the different first labels of the images,
    in ascending order, whatever numbers they are; `class_names` are those numbers, or, where `NAME.classes.txt` lies
    beside the file, its lines: the first names label 0. The labels come from the identity records (and the first image
    of each), else from the `.lst`, else from every record's header. They are kept in `NAME.rec.labels` for the next
    time, as the index is (`RecordReader`).

    Raises `UserError` for labels that are no whole numbers, or so large that float32 cannot tell them apart. An image
    whose record has another label than `labels` says raises `ImageError`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = record_file(Path(path))
        self.reader = RecordReader(self.path)
        self._first, self._end = _image_rows(self.reader)
        if self._first == self._end:
            raise UserError(f"{self.path}: has no images")
        self._cache = self.path.with_name(self.path.name + ".labels")
        arrays = self._labels()
        self._numbers: NDArray[np.uint32] = arrays["labels"]
        self._values: NDArray[np.int64] = arrays["values"]
        self.class_names: Sequence[str] = _class_names(self.path, self._values)

    def __reduce__(self) -> tuple[type[RecordSource], tuple[Path]]:
        return RecordSource, (self.path,)

    @property
    def labels(self) -> NDArray[np.int64]:
        return self._long_labels

    @cached_property
    def _long_labels(self) -> NDArray[np.int64]:
        if int(self._numbers.max()) >= len(self._values):
            raise UserError(f"{self._cache}: does not hold the labels of {self.path.name}; delete it")
        return self._numbers.astype(np.int64)  # not in workers: the numbers in the file are half as long, and shared

    def __len__(self) -> int:
        return self._end - self._first

    def __getitem__(self, index: int) -> tuple[Image, int]:
        return decode_image(self.encoded(index), name=ImageName(self, index)), int(self._numbers[index])

    def encoded(self, index: int) -> bytes:
        record = self.reader.at(self._row(index))
        expected = self._values[self._numbers[index]]
        if record.labels[0] != expected:
            raise ImageError(f"{self.name(index)}: has the label {record.labels[0]:g}, the index says {expected}")
        return record.data

    def stored_path(self, index: int) -> str:
        return self._paths[index % len(self)] if self._paths else ""

    def name(self, index: int) -> str:
        return f"{self.path}: record {self.reader.index.keys[self._row(index)]}"

    @cached_property
    def _paths(self) -> RecordPaths | None:
        lst = self.path.with_suffix(".lst")
        return RecordPaths(lst, self.reader.index.keys[self._first : self._end]) if lst.exists() else None

    def _row(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return self._first + index % len(self)

    def _labels(self) -> Arrays:
        reader, lst = self.reader, self.path.with_suffix(".lst")
        keys = reader.index.keys[self._first : self._end]

        def build() -> Arrays:
            values = _labels_by_identity(reader, self._first, self._end)
            if values is None and lst.is_file():
                values = _labels_by_list(lst, keys)
            if values is None:
                values = first_labels(reader, np.arange(self._first, self._end))
            return _number(self.path, keys, values)

        arrays = cached_arrays(self._cache, [self.path, self.path.with_suffix(".idx"), lst], build)
        if set(arrays) != {"labels", "values"} or len(arrays["labels"]) != len(self) or not len(arrays["values"]):
            raise UserError(f"{self._cache}: does not hold the labels of {self.path.name}; delete it")
        return arrays


def record_file(path: Path) -> Path:
    """The record file that `path` means: itself, or the `train.rec` in that folder."""
    return path / "train.rec" if path.is_dir() else path


def is_record_set(path: Path) -> bool:
    return path.suffix.lower() == ".rec" or (path / "train.rec").is_file()


def _image_rows(reader: RecordReader) -> tuple[int, int]:
    """First row and end of the images among the keys: all of them, or those before the identity records."""
    boundary = _boundary(reader)
    if boundary is None:
        return 0, len(reader)
    begin = reader.index.begin
    # Float32 rounds large boundaries: then the first empty record thereabouts is the true one.
    slack = int(np.spacing(np.float32(boundary))) if boundary >= MAX_LABELS else 0
    near = range(begin(boundary - slack), begin(boundary + slack))
    return begin(1), next((row for row in near if _is_range(reader.at(row))), begin(boundary))


def _boundary(reader: RecordReader) -> int | None:
    """Key of the first identity record as record 0 says; None where there is no such record 0."""
    if int(reader.index.keys[0]) != 0:
        return None
    record = reader.at(0)
    begin, end = record.labels if _is_range(record) else (0.0, 0.0)
    return int(begin) if 1 <= begin <= _MAX_KEY and begin.is_integer() and end.is_integer() else None


def _is_range(record: Record) -> bool:
    return len(record.labels) == 2 and not record.data and record.labels[0] <= record.labels[1]


def _labels_by_list(lst: Path, keys: NDArray[Any]) -> NDArray[np.float64] | None:
    """Labels of the images from the `.lst`; None where it does not list them all."""
    listed, labels = array("q"), array("d")
    for entry in read_lst(lst):
        listed.append(entry.key)
        labels.append(entry.labels[0])
    order = np.argsort(np.array(listed), kind="stable")
    ordered = np.array(listed)[order]
    rows = np.searchsorted(ordered, keys.astype(np.int64))
    if not len(ordered) or rows[-1] == len(ordered) or (ordered[rows] != keys).any():
        return None
    return np.array(labels)[order][rows]


def _labels_by_identity(reader: RecordReader, first: int, end: int) -> NDArray[np.float64] | None:
    """Labels of the images from the ranges of the identity records; None where these do not cover them exactly."""
    keys = reader.index.keys
    rows = np.arange(end, len(keys))
    begin, behind = int(keys[first]), int(keys[end - 1]) + 1
    if not len(rows) or behind > MAX_LABELS or behind - begin != end - first:
        return None
    identities = np.concatenate([reader.parts(some) for some in _batches(rows)])
    ranges = identities["labels"][identities["labels"][:, 0] < identities["labels"][:, 1]].astype(np.float64)
    ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    edges = np.append(ranges[:, 0], behind)
    covers = edges[0] == begin and bool((ranges[:, 1] == edges[1:]).all() and (edges == np.floor(edges)).all())
    if not covers or not _is_plain(identities).all() or (identities["flag"] != 2).any():
        return None
    starts = edges.astype(np.int64) - begin
    return np.repeat(first_labels(reader, starts[:-1] + first), np.diff(starts))


def _batches(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (rows[start : start + _ROWS_AT_ONCE] for start in range(0, len(rows), _ROWS_AT_ONCE))


def first_labels(reader: RecordReader, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """First label (N,) of each record, read in the order in which they lie. Raises `RecordError` for a damaged one."""
    order = np.argsort(reader.index.offsets(rows), kind="stable")
    labels = np.empty(len(rows))
    for some in _batches(order):
        labels[some] = _first_labels(reader, rows[some])
    return labels


def _first_labels(reader: RecordReader, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    parts = reader.parts(rows)
    labels = np.where(parts["flag"] > 0, parts["labels"][:, 0], parts["label"]).astype(np.float64)
    for odd in np.flatnonzero(~_is_plain(parts)):
        labels[odd] = reader.at(int(rows[odd])).labels[0]
    return labels


def _is_plain(parts: NDArray[np.void]) -> NDArray[np.bool_]:
    """False for records that are split, very short or damaged: these are to be read whole, or refused, one by one."""
    magic = int.from_bytes(MAGIC, "little")
    return (parts["magic"] == magic) & (parts["length"] >= PART.itemsize - 8) & (parts["length"] <= MAX_PAYLOAD)


def _number(path: Path, keys: NDArray[Any], labels: NDArray[np.float64]) -> Arrays:
    """Labels without gaps, and the value in the file that each stands for."""
    wrong = np.flatnonzero((labels != np.floor(labels)) | ~(np.abs(labels) < MAX_LABELS))
    if len(wrong):
        key, label = keys[wrong[0]], labels[wrong[0]]
        why = "is no whole number" if not np.isfinite(label) or label % 1 else "cannot be told from its neighbours"
        raise UserError(
            f"{path}: record {key} has the label {label!s}, which {why}; an identity is a whole number below"
            f" {MAX_LABELS} (2^24), which is as far as float32 counts ({len(wrong)} such records)"
        )
    values, numbers = np.unique(labels.astype(np.int64), return_inverse=True)
    return {"labels": numbers.astype(np.uint32), "values": values}


@dataclass(frozen=True)
class _Numerals(Sequence[str]):
    """Numbers as text, made when asked for: a million strings would weigh more than the index."""

    values: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return _Numerals(self.values[index]) if isinstance(index, slice) else str(self.values[index])


def _class_names(path: Path, values: NDArray[np.int64]) -> Sequence[str]:
    names = read_class_map(path)
    if names is None:
        return _Numerals(values)
    if values[0] < 0 or values[-1] >= len(names):
        worst = values[0] if values[0] < 0 else values[-1]
        raise UserError(f"{beside(path, CLASS_MAP)}: names labels 0 to {len(names) - 1}, {path} has the label {worst}")
    return [names[value] for value in values]
