"""Writes a labelled set as a RecordIO file, in the flavour that its order allows."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceprint.data.images import ImageError, decode_image
from faceprint.data.record_files import ListEntry, Property, format_lst, write_property
from faceprint.data.record_source import MAX_LABELS
from faceprint.data.recordio import encode_record
from faceprint.errors import UserError


class RecordSetWriter:
    """A `SetWriter` of the `.rec` file at `path`, with the `.idx`, `.lst` and `property` beside it.

    Images get the keys 1, 2, … in the order of `write`. Where those of an identity came one after the other, the set is
    of the InsightFace flavour, as published training sets are. Otherwise, or with more than 2^24 keys, whose ranges
    float32 could not hold, it is of the im2rec flavour. The `.lst` keeps the paths in both. Raises `UserError` for
    more identities than float32 tells apart.
    """

    def __init__(self, path: Path, class_names: Sequence[str], labels: NDArray[np.int64]) -> None:
        if len(class_names) > MAX_LABELS:
            raise UserError(f"{len(class_names)} identities; a record file tells {MAX_LABELS} (2^24) apart, use shards")
        self._path = path
        self._num_classes = len(class_names)
        self._labels = array("i", labels.astype(np.int32).tobytes())
        with ExitStack() as stack:
            self._records, self._index, self._list = (
                stack.enter_context(path.with_suffix(suffix).open("ab")) for suffix in (".rec", ".idx", ".lst")
            )
            self._files = stack.pop_all()

    def write(self, data: bytes, label: int, path: str) -> None:
        if not self._labels:
            self._describe(data)
        self._labels.append(label)
        key = len(self._labels)
        self._add(data, label, key)
        self._list.write(format_lst(ListEntry(key, (label,), path)).encode("utf-8", "surrogateescape"))

    def checkpoint(self) -> Mapping[str, int]:
        files = self._records, self._index, self._list
        for file in files:
            file.flush()
        return {Path(file.name).name: file.tell() for file in files}

    def finish(self) -> None:
        ranges = _grouped(np.frombuffer(self._labels, np.int32), self._num_classes)
        if ranges is not None:
            self._write_identities(ranges)
        self.close()

    def close(self) -> None:
        self._files.close()

    def _describe(self, data: bytes) -> None:
        """Write `property`, where the first image says what size they are."""
        try:
            height, width, _ = decode_image(data, name="image").shape
        except ImageError:
            return
        write_property(self._path.parent, Property(self._num_classes, height, width))

    def _add(self, data: bytes, label: float | Sequence[float], key: int) -> None:
        self._index.write(b"%d\t%d\n" % (key, self._records.tell()))
        self._records.write(encode_record(data, label, key))

    def _write_identities(self, ranges: NDArray[np.int64]) -> None:
        first = len(self._labels) + 1
        for label, (begin, end) in enumerate(ranges.tolist()):
            self._add(b"", (begin, end), first + label)
        self._add(b"", (first, first + len(ranges)), 0)


def _grouped(labels: NDArray[np.int32], num_classes: int) -> NDArray[np.int64] | None:
    """Half-open key ranges (num_classes, 2) where each label has one; keys begin with 1. None where one has several."""
    starts = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
    found = labels[starts]
    if len(np.unique(found)) < len(found) or len(labels) + 1 + num_classes > MAX_LABELS:
        return None
    ranges = np.ones((num_classes, 2), np.int64)
    ranges[found] = np.stack([starts, np.append(starts[1:], len(labels))], 1) + 1
    return ranges
