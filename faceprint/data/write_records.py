"""Writes a labelled set as a RecordIO file, in the flavour that its order allows."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from faceprint.data.images import ImageError, decode_image
from faceprint.data.record_files import (
    ListEntry,
    Property,
    class_file,
    format_class_names,
    format_lst,
    write_property,
)
from faceprint.data.record_source import MAX_LABELS
from faceprint.data.recordio import RecordWriter
from faceprint.errors import UserError
from faceprint.files import write_whole


class RecordSetWriter:
    """A `SetWriter` of a `.rec` file with all that belongs beside it; `path` names the file, or the folder of a
    `train.rec`.

    Images get the keys 1, 2, … in the order of `write`. Where those of an identity came one after the other, the set is
    of the InsightFace flavour, as published training sets are. Otherwise, or with more than 2^24 keys, whose ranges
    float32 could not hold, it is of the im2rec flavour with its `.lst`. `property` and `NAME.classes.txt` are written
    with both. Raises `UserError` where the set exists, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], class_names: Sequence[str]) -> None:
        where = Path(path)
        self._path = where if where.suffix.lower() == ".rec" else where / "train.rec"
        if self._path.exists():
            raise UserError(f"{self._path}: exists; choose a new place for the set")
        if len(class_names) > MAX_LABELS:
            raise UserError(f"{len(class_names)} identities; a record file tells {MAX_LABELS} (2^24) apart, use shards")
        self._classes = format_class_names(class_names)
        self._num_classes = len(class_names)
        self._labels = array("i")
        self._shape: tuple[int, ...] = ()
        self._writer = RecordWriter(self._path)
        self._partial = self._path.with_name(f".{uuid4().hex}.partial")
        self._list = self._partial.open("w", encoding="utf-8", errors="surrogateescape")

    def write(self, data: bytes, label: int, name: str) -> None:
        """Add one encoded image of identity `label`, byte for byte; `name` goes into a `.lst`."""
        if not 0 <= label < self._num_classes:
            raise UserError(f"{name}: label {label}; the set has the identities 0 to {self._num_classes - 1}")
        self._labels.append(label)
        self._writer.write(data, label, len(self._labels))
        self._list.write(format_lst(ListEntry(len(self._labels), (label,), name)))
        self._shape = self._shape or _shape(data)

    def finish(self) -> None:
        """Complete the set and give it its name. Raises `UserError`."""
        self._list.close()
        if not self._labels:
            self.discard()
            raise UserError(f"{self._path}: no images were written")
        ranges = _grouped(np.frombuffer(self._labels, np.int32), self._num_classes)
        if ranges is not None:
            self._write_identities(ranges)
            self._partial.unlink()
        else:
            os.replace(self._partial, self._path.with_suffix(".lst"))
        if self._shape:
            write_property(self._path.parent, Property(self._num_classes, *self._shape[:2]))
        write_whole(class_file(self._path), self._classes)
        self._writer.finish()

    def discard(self) -> None:
        """Remove what was written."""
        self._list.close()
        self._partial.unlink(missing_ok=True)
        self._writer.discard()

    def _write_identities(self, ranges: NDArray[np.int64]) -> None:
        first = len(self._labels) + 1
        for label, (begin, end) in enumerate(ranges.tolist()):
            self._writer.write(b"", (begin, end), first + label)
        self._writer.write(b"", (first, first + len(ranges)), 0)


def _grouped(labels: NDArray[np.int32], num_classes: int) -> NDArray[np.int64] | None:
    """Half-open key ranges (num_classes, 2) where each label has one; keys begin with 1. None where one has several."""
    starts = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
    found = labels[starts]
    if len(np.unique(found)) < len(found) or len(labels) + 1 + num_classes > MAX_LABELS:
        return None
    ranges = np.ones((num_classes, 2), np.int64)
    ranges[found] = np.stack([starts, np.append(starts[1:], len(labels))], 1) + 1
    return ranges


def _shape(data: bytes) -> tuple[int, ...]:
    try:
        return decode_image(data, name="image").shape
    except ImageError:
        return ()
