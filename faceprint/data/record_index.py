"""Where the records of a RecordIO file lie: read from its `.idx`, or from the file itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from faceprint.data.array_cache import Arrays, cached_arrays
from faceprint.errors import UserError

_CHUNK = 1 << 20  # parsed within the processor's caches
_MAX_SIZE = 1 << 42
_MAX_DIGITS = 18  # of a number that surely fits int64


@dataclass(frozen=True)
class RecordIndex:
    """Keys of all records, ascending, uint32 or int64 (N,), and where each begins.

    Records begin at multiples of 4 bytes: `low` uint32 (N,) and `high` uint8 (N,) are the 40 bits of that multiple,
    enough for 4 TiB. A worker that reads all images has five bytes for each of them in memory in place of eight.
    """

    keys: NDArray[Any]
    low: NDArray[np.uint32]
    high: NDArray[np.uint8]

    def offset(self, row: int) -> int:
        """The byte at which the record of the `row`-th key begins."""
        return (int(self.high[row]) << 32 | int(self.low[row])) << 2

    def reach(self, row: int) -> int:
        """Bytes up to the record of the next key, where that lies behind this one; else anything."""
        return self.offset(row + 1) - self.offset(row) if row + 1 < len(self.keys) else 0

    def offsets(self, rows: NDArray[np.int64] | slice) -> NDArray[np.int64]:
        """The same of many rows, int64 (N,)."""
        return (self.high[rows].astype(np.int64) << 32 | self.low[rows]) << 2

    def begin(self, key: int) -> int:
        """Row of the first key that is at least `key`; behind the last where there is none."""
        if key > int(self.keys[-1]):
            return len(self.keys)
        if key >= (first := int(self.keys[0])) and key - first < len(self.keys) and self.keys[key - first] == key:
            return key - first  # keys without gaps, as most sets have them, need no search
        return int(self.keys.searchsorted(self.keys.dtype.type(max(key, 0))))  # another type would convert all keys

    def row(self, key: int) -> int:
        """Row of `key`. Raises `KeyError`."""
        row = self.begin(key)
        if row == len(self.keys) or int(self.keys[row]) != key:
            raise KeyError(key)
        return row


def open_index(path: Path, scan: Callable[[], tuple[NDArray[np.int64], NDArray[np.int64]]]) -> RecordIndex:
    """The index of the record file `path`: from the `.idx` beside it, or by `scan()` -> (keys, offsets) without one.

    Kept in `NAME.rec.index` for the next time (`cached_arrays`). Raises `UserError` for a malformed `.idx` and for
    one that cannot belong to the file.
    """
    text = path.with_suffix(".idx")

    def build() -> Arrays:
        given = text.is_file()
        return _check_and_sort(
            text if given else path, path.stat().st_size, *(read_index_text(text) if given else scan())
        )

    cache = path.with_name(path.name + ".index")
    arrays = cached_arrays(cache, [path, text], build)
    if set(arrays) != {"keys", "low", "high"} or len(set(map(len, arrays.values()))) > 1:
        raise UserError(f"{cache}: is not the index of {path.name}; delete it")
    return RecordIndex(**arrays)


def _check_and_sort(name: Path, size: int, keys: NDArray[np.int64], offsets: NDArray[np.int64]) -> Arrays:
    """What a cache keeps of an index, sorted by key; `name` is to blame for what is wrong with it."""
    if not len(keys):
        raise UserError(f"{name}: lists no records")
    if size > _MAX_SIZE:
        raise UserError(f"{name}: belongs to a file of {size} bytes; at most {_MAX_SIZE} (4 TiB) are read")
    wrong = np.flatnonzero((offsets % 4 != 0) | (offsets >= size))
    if len(wrong):
        at = wrong[0]
        raise UserError(
            f"{name}: key {keys[at]}: byte offset {offsets[at]} is not a multiple of 4 within the {size} bytes of the"
            f" record file ({len(wrong)} such keys); delete the .idx to have it made from the records"
        )
    for what, numbers in (("byte offset", offsets), ("key", keys)):
        ordered = np.sort(numbers, kind="stable")  # quick where they are in order already, and they mostly are
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            raise UserError(f"{name}: {what} {twice[0]} is listed more than once ({len(twice)} such lines)")
    if (keys[1:] < keys[:-1]).any():
        order = np.argsort(keys, kind="stable")
        keys, offsets = keys[order], offsets[order]
    return {
        "keys": keys.astype(np.uint32) if keys[-1] < 1 << 32 else keys,
        "low": (offsets >> 2).astype(np.uint32),
        "high": (offsets >> 34).astype(np.uint8),
    }


def read_index_text(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys and offsets, int64 (N,) each, of lines `key<TAB>byte offset`. Raises `UserError` naming a malformed line."""
    try:
        with path.open("rb") as file:
            tables = [_parse(path, chunk, line) for chunk, line in _whole_lines(path, file)]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not tables:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate([keys for keys, _ in tables]), np.concatenate([offsets for _, offsets in tables])


def _whole_lines(path: Path, file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Pieces of a text, each ending with a line end, and the number of their first line."""
    rest, line = b"", 1
    while chunk := file.read(_CHUNK):
        whole, end, rest = (rest + chunk).rpartition(b"\n")
        if end:
            yield whole + end, line
            line += whole.count(b"\n") + 1
        elif len(rest) > _CHUNK:
            raise UserError(f"{path}:{line}: {_EXPECTED}, got a line of more than {_CHUNK} bytes")
    if rest.strip():
        yield rest + b"\n", line


_EXPECTED = "expected `key<TAB>byte offset`"


def _parse(path: Path, text: bytes, first_line: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    characters = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(characters < ord("0"))
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends - starts
    well = (
        len(ends) % 2 == 0
        and bool((characters[ends[0::2]] == ord("\t")).all() and (characters[ends[1::2]] == ord("\n")).all())
        and int(characters.max()) <= ord("9")
        and int(lengths.min()) > 0
        and int(lengths.max()) <= _MAX_DIGITS
    )
    if not well:
        raise UserError(_malformed(path, text, first_line))
    return _decimals(characters, ends[0::2], lengths[0::2]), _decimals(characters, ends[1::2], lengths[1::2])


def _decimals(characters: NDArray[np.uint8], ends: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The whole numbers whose last digits stand before `ends`: digit by digit, all numbers at once."""
    shortest = int(lengths.min())
    values = np.zeros(len(ends), np.int64)
    for place in range(int(lengths.max())):
        digits = characters[np.maximum(ends - 1 - place, 0)].astype(np.int64) - ord("0")
        if place >= shortest:
            digits *= lengths > place
        values += digits * 10**place
    return values


def _malformed(path: Path, text: bytes, first_line: int) -> str:
    lines = enumerate(text.split(b"\n"), start=first_line)
    number, line = next((number, line) for number, line in lines if not _is_entry(line.split(b"\t")))
    return f"{path}:{number}: {_EXPECTED}, got {os.fsdecode(line[:80])!r}"


def _is_entry(fields: list[bytes]) -> bool:
    return len(fields) == 2 and all(field.isdigit() and len(field) <= _MAX_DIGITS for field in fields)
