"""MXNet RecordIO (`.rec` with `.idx`), the format that training sets are published in, without MXNet.

A record is `uint32 0xced7230a`, `uint32` with a flag in the upper 3 and a length in the lower 29 bits, `length` bytes,
and zeros up to a multiple of 4, all little-endian. The payload is a header `uint32 flag, float32 label, uint64 id,
uint64 id2`, then `flag` float32 labels, which replace the one in the header, then an encoded image. A payload that
holds the magic number at a multiple of 4 is split there, the number dropped: the parts are flagged 1, 2, …, 2, 3, a
whole payload 0. So each aligned magic number in a file begins a part.

Layout: dmlc-core `recordio.h`, MXNet `recordio.py`.
"""

from __future__ import annotations

import os
import struct
import weakref
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from faceprint.data.images import ImageError
from faceprint.data.read_at import open_to_read, read_at
from faceprint.data.record_index import open_index
from faceprint.errors import UserError

MAGIC = struct.pack("<I", 0xCED7230A)
MAX_PAYLOAD = (1 << 29) - 1
"""Longest payload, parts joined; what the length field can say."""

_READ_AHEAD = 1 << 14  # most records of aligned faces come with one system call
_MAX_REACH = 1 << 20  # what lies between longer ones need not be a record: it may be a damaged index
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_HEAD = struct.Struct("<4sI")
_HEADER = struct.Struct("<IfQQ")
_BEGINNING = struct.Struct("<4sIIfQQ")
"""Head and header of a record in one part."""

PART = np.dtype(
    {
        "names": ["magic", "length", "flag", "label", "id", "id2", "labels"],
        "formats": ["<u4", "<u4", "<u4", "<f4", "<u8", "<u8", ("<f4", (2,))],
    }
)
"""First bytes of a record in one part, up to its second label."""


class RecordError(ImageError):
    """A damaged record: the message names file, key and byte. Loaders count it as an unreadable image."""


@dataclass(frozen=True)
class Record:
    """One record: the bytes after its labels, mostly an encoded image; its labels; the `id` in its header."""

    data: bytes
    labels: tuple[float, ...]
    id: int


class RecordReader(Mapping[int, Record]):
    """The records of a `.rec` file by key, read one by one where they lie; order of keys is ascending.

    Keys come from the `.idx` beside it. Without one the file is scanned, and the keys are the ids of the records, or,
    where those are not all different, the numbers of the records in the file. The index of a large file is kept in
    `NAME.rec.index` beside it, or in the user's cache folder, and mapped into memory: opening again takes no time and
    workers share it. Readers are pickled as a path; one that is shared by forked processes or threads is safe.

    `reader[key]` raises `KeyError` for an unknown key and `RecordError` for a damaged record. Raises `UserError` where
    file or index cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"{self.path}: no such file; give a .rec file")
        try:
            self._descriptor = open_to_read(self.path)
            weakref.finalize(self, os.close, self._descriptor)
            self._size = os.fstat(self._descriptor).st_size
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        if not self._size:
            raise UserError(f"{self.path}: is empty; a record file holds at least one record")
        self.index = open_index(self.path, self._scan)

    def __reduce__(self) -> tuple[type[RecordReader], tuple[Path]]:
        return RecordReader, (self.path,)

    def __len__(self) -> int:
        return len(self.index.keys)

    def __iter__(self) -> Iterator[int]:
        return map(int, self.index.keys)

    def __getitem__(self, key: int) -> Record:
        return self.at(self.index.row(key))

    def in_file_order(self) -> Iterator[tuple[int, Record]]:
        """(key, record) one after the other as they lie in the file: the fastest way to read all."""
        for row in np.argsort(self.index.offsets(slice(None)), kind="stable"):
            yield int(self.index.keys[row]), self.at(int(row))

    def at(self, row: int) -> Record:
        """The record of the `row`-th key. Raises `RecordError`."""
        try:
            return self._record(self.index.offset(row), self.index.reach(row))
        except _Damage as damage:
            raise RecordError(f"{self.path}: record {self.index.keys[row]} {damage}") from damage
        except OSError as error:  # of a disk or a server; whoever writes a copy must not take it for his target's
            reason = error.strerror or error
            raise RecordError(f"{self.path}: record {self.index.keys[row]} cannot be read ({reason})") from error

    def parts(self, rows: NDArray[np.int64]) -> NDArray[np.void]:
        """The first bytes of those records as `PART` (N,), zeros behind the end of the file; nothing is checked."""
        pieces = (read_at(self._descriptor, PART.itemsize, at) for at in self.index.offsets(rows).tolist())
        return np.frombuffer(b"".join(piece.ljust(PART.itemsize, b"\0") for piece in pieces), PART)

    def _record(self, offset: int, reach: int) -> Record:
        count = reach + _HEAD.size if 0 < reach < _MAX_REACH else _READ_AHEAD  # with the head of the next record
        near = _unpack_near(read_at(self._descriptor, count, offset))
        if near is not None:
            return near
        payload, _ = self._read(offset)
        try:
            return _unpack(payload)
        except struct.error as error:
            raise _Damage(offset, f"its {len(payload)} bytes are too few for header and labels") from error

    def _scan(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        ids, offsets, at = array("Q"), array("q"), 0
        while at < self._size:
            offsets.append(at)
            try:
                payload, at = self._read(at)
            except _Damage as damage:
                raise RecordError(f"{self.path}: record number {len(ids)} {damage}") from damage
            ids.append(_HEADER.unpack_from(payload)[2] if len(payload) >= _HEADER.size else 0)
        keys = np.frombuffer(ids, np.uint64)
        if len(np.unique(keys)) < len(keys) or keys.max() >= 1 << 63:
            keys = np.arange(len(keys))
        return keys.astype(np.int64), np.frombuffer(offsets, np.int64)

    def _read(self, at: int) -> tuple[bytes, int]:
        """The payload of the record at byte `at`, its parts joined, and the byte behind it."""
        begin, window = at, _Window(self._descriptor, self._size)
        flag, payload, at = window.part(at)
        if flag == _WHOLE:
            return payload, at
        if flag != _FIRST:
            raise _Damage(begin, f"is a later part (flag {flag}) of a record, not its first")
        joined = bytearray(payload)
        while flag != _LAST:
            flag, payload, at = window.part(at)
            joined += MAGIC + payload
            if len(joined) > MAX_PAYLOAD:
                raise _Damage(begin, f"is longer than {MAX_PAYLOAD} bytes")
        return bytes(joined), at


class _Damage(Exception):
    """What is wrong with the bytes from `at` on."""

    def __init__(self, at: int, problem: str) -> None:
        super().__init__(f"at byte {at}: {problem}")


class _Window:
    """Parts of a file, read with the bytes around them: what was read already takes no further system call."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor, self._size = descriptor, size
        self._start, self._piece = 0, b""

    def part(self, at: int) -> tuple[int, bytes, int]:
        """Flag and content of the part at byte `at`, and the byte behind it, where a part that may follow begins."""
        flag, length = _parse_head(at, self._take(at, 8))
        end = at + 8 + length + -length % 4
        if end > self._size:
            raise _Damage(at, f"claims {length} bytes, the file ends after {self._size - at - 8}")
        content = self._take(at + 8, end - at)  # with the head of the next part
        if any(content[length : end - at - 8]):
            raise _Damage(at, f"claims {length} bytes, which are not followed by zeros up to the next word")
        complete = flag in (_WHOLE, _LAST)
        if end < self._size or not complete:
            following, _ = _parse_head(end, content[end - at - 8 :])
            if (following in (_WHOLE, _FIRST)) != complete:
                raise _Damage(at, f"a part flagged {flag} is followed by one flagged {following}")
        return flag, content[:length], end

    def _take(self, at: int, count: int) -> bytes:
        """`count` bytes from byte `at`, fewer at the end of the file."""
        if at >= self._size:
            return b""
        begin, end = at - self._start, at - self._start + count
        if begin < 0 or end > len(self._piece):
            self._start, self._piece = at, read_at(self._descriptor, max(count, _READ_AHEAD), at)
            begin, end = 0, count
        return self._piece[begin:end]


def _parse_head(at: int, head: bytes) -> tuple[int, int]:
    """Flag and length of the part that begins with `head`."""
    if len(head) < 8:
        raise _Damage(at, "the file ends there: it is truncated")
    magic, word = _HEAD.unpack(head)
    flag = word >> 29
    if magic != MAGIC or flag > _LAST:
        raise _Damage(at, f"begins with {head.hex(' ', 4)}; a record begins with {MAGIC.hex()}")
    return flag, word & MAX_PAYLOAD


def _unpack_near(piece: bytes) -> Record | None:
    """The record that `piece` of a file begins with, copied once.

    None where there is more to it, or to say: it is in parts, or damaged, or ends behind the piece or near its end.
    """
    if len(piece) < _BEGINNING.size:
        return None
    magic, length, flag, label, record_id, _ = _BEGINNING.unpack_from(piece)
    behind, begin = 8 + length, _BEGINNING.size + 4 * flag
    following = behind + -length % 4
    if magic != MAGIC or length > MAX_PAYLOAD or begin > behind or following + 8 > len(piece):
        return None
    next_magic, next_word = _HEAD.unpack_from(piece, following)
    if any(piece[behind:following]) or next_magic != MAGIC or next_word >> 29 > _FIRST:
        return None
    labels = struct.unpack_from(f"<{flag}f", piece, _BEGINNING.size) if flag else (label,)
    return Record(piece[begin:behind], labels, record_id)


def _unpack(payload: bytes) -> Record:
    """Raises `struct.error` where the payload is too short for what it claims."""
    flag, label, record_id, _ = _HEADER.unpack_from(payload)
    if flag == 0:
        return Record(payload[_HEADER.size :], (label,), record_id)
    if flag > len(payload) // 4:
        raise struct.error
    return Record(payload[_HEADER.size + 4 * flag :], struct.unpack_from(f"<{flag}f", payload, _HEADER.size), record_id)


def encode_record(data: bytes, labels: float | Sequence[float], key: int) -> bytes:
    """The bytes of one record: header with id `key` and labels (a number, or several), then `data`, split at magics.

    Raises `UserError` for what the format cannot hold: whole labels that float32 rounds, 512 MiB and more.
    """
    values = np.asarray(labels, np.float64)
    with np.errstate(over="ignore"):
        stored = values.astype("<f4")
    if values.ndim > 1 or not values.size:
        raise UserError(f"record {key}: labels of shape {values.shape}; a record has one label, or a list of them")
    rounded = values[(values == np.floor(values)) & (stored != values)]
    if rounded.size:
        raise UserError(f"record {key}: label {rounded[0]:.0f} is rounded by float32, which is exact up to {1 << 24}")
    header = _HEADER.pack(0, stored, key, 0) if values.ndim == 0 else _HEADER.pack(len(values), 0, key, 0)
    payload = b"".join([header, stored.tobytes() if values.ndim else b"", data])
    if len(payload) > MAX_PAYLOAD:
        raise UserError(f"record {key}: {len(payload)} bytes; a record holds at most {MAX_PAYLOAD}")
    return _frame(payload)


def _frame(payload: bytes) -> bytes:
    parts: list[bytes] = []
    start, found = 0, payload.find(MAGIC)
    while found >= 0:
        if found % 4 == 0:
            parts.append(payload[start:found])
            start = found + 4
        found = payload.find(MAGIC, found + 1)
    parts.append(payload[start:])
    flags = [_FIRST, *[_MIDDLE] * (len(parts) - 2), _LAST] if len(parts) > 1 else [_WHOLE]
    framed = [MAGIC + struct.pack("<I", flag << 29 | len(part)) + part for flag, part in zip(flags, parts, strict=True)]
    return b"".join(framed) + b"\0" * (-len(parts[-1]) % 4)


class RecordWriter:
    """Writes `path` (`.rec`) and the `.idx` beside it, readable by MXNet; both appear, whole, when the block ends.

        with RecordWriter("train.rec") as writer:
            writer.write(jpeg, label=3)

    Until then they have other names, and an exception in the block removes them. Files that were there are replaced.
    Raises `UserError` where they cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.suffix == ".idx":
            raise UserError(f"{self.path}: give the .rec file; the .idx is written beside it")
        self._targets = (self.path, self.path.with_suffix(".idx"))
        unique = uuid4().hex
        self._partials = [target.with_name(f".{target.name}.{unique}.partial") for target in self._targets]
        self._keys, self._offset, self._next_key = array("q"), 0, 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._records, self._index = (open(partial, "wb") for partial in self._partials)  # noqa: SIM115
        except OSError as error:
            raise self._unwritable(error) from error

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.discard()

    def write(self, data: bytes, label: float | Sequence[float], key: int | None = None) -> None:
        """Add `data` under `key`, which must be new; without one, the highest key so far plus 1, beginning with 0."""
        key = self._next_key if key is None else key
        if not 0 <= key < 1 << 63:
            raise UserError(f"{self.path}: key {key}; keys are whole numbers from 0")
        record = encode_record(data, label, key)
        try:
            self._records.write(record)
            self._index.write(b"%d\t%d\n" % (key, self._offset))
        except OSError as error:
            raise self._unwritable(error) from error
        self._keys.append(key)
        self._offset += len(record)
        self._next_key = max(self._next_key, key + 1)

    def finish(self) -> None:
        """Give the files their names. Raises `UserError`, leaving nothing, where a key was used twice."""
        try:
            self._refuse_repeated_keys()
            self._records.close()
            self._index.close()
            # Whoever looks in between finds records with their own index or without one, never with another's.
            self._targets[1].unlink(missing_ok=True)
            for partial, target in zip(self._partials, self._targets, strict=True):
                os.replace(partial, target)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what was written."""
        self._records.close()
        self._index.close()
        for partial in self._partials:
            partial.unlink(missing_ok=True)

    def _refuse_repeated_keys(self) -> None:
        ordered = np.sort(np.frombuffer(self._keys, np.int64), kind="stable") if self._keys else np.zeros(0, np.int64)
        repeated = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(repeated):
            raise UserError(f"{self.path}: key {repeated[0]} was written more than once")

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"{self.path}: cannot be written ({error.strerror or error})")
