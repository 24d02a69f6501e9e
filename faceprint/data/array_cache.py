"""Large arrays that took time to make, kept in one file and memory-mapped, so that worker processes share them."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

MIN_LENGTH = 10_000
"""Shorter arrays are quickly made again and leave no file."""

_MAGIC = b"faceprint arrays 1\n"
_ALIGNMENT = 64
_CHUNK = 1 << 20
_TYPES = ("|u1", "<u4", "<i8")


def cached_arrays(file: Path, origins: Sequence[Path], build: Callable[[], Arrays]) -> Arrays:
    """What `build()` returns, one-dimensional arrays by name, from `file` where that was written for these `origins`.

    Origins are known again by size and time of change. A stale or damaged file (each array has a checksum) is made
    anew. Where the folder of `file` cannot be written, it lies in the user's cache folder; where neither can, the
    arrays stay in memory. Arrays from a file are read-only memory maps.
    """
    stamp = [_stamp(path) for path in origins]
    places = _places(file)
    found = next((arrays for arrays in (_load(place, stamp) for place in places) if arrays is not None), None)
    if found is not None:
        return found
    arrays = build()
    if max(map(len, arrays.values())) < MIN_LENGTH:
        return arrays
    saved = next((place for place in places if _save(place, stamp, arrays)), None)
    return (_load(saved, stamp) if saved else None) or arrays


def _stamp(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _places(file: Path) -> list[Path]:
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    digest = hashlib.sha256(os.fsencode(os.path.realpath(file))).hexdigest()[:32]
    return [file, Path(root, "faceprint", "arrays", digest)] if os.path.isabs(root) else [file]  # else there is no home


def _save(place: Path, stamp: Sequence[Sequence[int]], arrays: Arrays) -> bool:
    partial = place.with_name(f".{uuid4().hex}.partial")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as out:
                _write(out, stamp, arrays)
            os.replace(partial, place)
        finally:
            partial.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _write(out: IO[bytes], stamp: Sequence[Sequence[int]], arrays: Arrays) -> None:
    rows = [(name, array.dtype.str, len(array), _checksum([array])) for name, array in arrays.items()]
    header = json.dumps({"origins": stamp, "arrays": rows}).encode()
    out.write(b"%s%d %s\n" % (_MAGIC, zlib.crc32(header), header))
    for array in arrays.values():
        out.write(b"\0" * (-out.tell() % _ALIGNMENT))
        np.ascontiguousarray(array).tofile(out)


def _checksum(pieces: Iterable[Any]) -> int:
    value = 0
    for piece in pieces:
        value = zlib.crc32(piece, value)
    return value


def _load(place: Path, stamp: Sequence[Sequence[int]]) -> dict[str, NDArray[Any]] | None:
    """The arrays in the file, or None where it is absent, was written for others, or is damaged in any way."""
    try:
        with place.open("rb") as file:
            header = _read_header(file)
            if header["origins"] != stamp:
                return None
            return {name: _map(place, file, *row) for name, *row in header["arrays"]}
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None


def _read_header(file: IO[bytes]) -> dict[str, Any]:
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("not a file of arrays")
    checksum, _, header = file.readline(_CHUNK).rstrip(b"\n").partition(b" ")
    if checksum != b"%d" % zlib.crc32(header):
        raise ValueError("damaged")
    return json.loads(header)


def _map(place: Path, file: IO[bytes], dtype: str, length: int, checksum: int) -> NDArray[Any]:
    if dtype not in _TYPES:
        raise ValueError(f"an array of {dtype}")
    start = file.seek(-file.tell() % _ALIGNMENT, os.SEEK_CUR)
    # Read rather than mapped: pages read here do not count as this process's memory.
    left = length * np.dtype(dtype).itemsize
    if _checksum(_pieces(file, left)) != checksum or file.tell() != start + left:
        raise ValueError("damaged")
    return np.memmap(place, dtype, "r", start, (length,)).view(np.ndarray) if length else np.zeros(0, dtype)


def _pieces(file: IO[bytes], left: int) -> Iterable[bytes]:
    while left > 0 and (piece := file.read(min(left, _CHUNK))):
        left -= len(piece)
        yield piece
