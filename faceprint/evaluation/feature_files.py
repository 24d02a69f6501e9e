"""Embeddings made elsewhere: `.npz`, `.npy` with a list of names, and the `.bin` matrices of the MegaFace devkit."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from faceprint.data.images import IMAGE_SUFFIXES
from faceprint.errors import UserError
from faceprint.evaluation.embedding_set import (
    EmbeddingSet,
    Ints,
    Vectors,
    is_embedding_folder,
    open_embeddings,
    with_columns,
)
from faceprint.evaluation.names import Names, encode_names, open_names
from faceprint.files import write_whole

T = TypeVar("T")

FEATURE_SUFFIXES = (".npz", ".npy", ".bin")
NAMES_SHOWN = 20
_MOST_UNPACKED = 4 << 30
# What NumPy and zipfile raise for damaged files.
_BROKEN = (
    *(OSError, ValueError, TypeError, KeyError, EOFError, OverflowError, MemoryError, RecursionError),
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError, struct.error, zlib.error),
)
_CV_TYPES = {5: np.dtype("<f4"), 6: np.dtype("<f8")}
_MEMBERS = {"label": "labels", "template": "templates", "media": "media"}
_HEADER = struct.Struct("<4i")


class MissingFeaturesError(UserError):
    """Images that have no embedding; `missing` holds all their names."""

    def __init__(self, missing: Sequence[str], wanted: int) -> None:
        self.missing = missing
        shown = ", ".join(missing[:NAMES_SHOWN])
        more = f" and {len(missing) - NAMES_SHOWN:,} more" if len(missing) > NAMES_SHOWN else ""
        super().__init__(f"the embeddings lack {len(missing):,} of {wanted:,} images: {shown}{more}")

    def lines(self) -> list[str]:
        """One for each image."""
        return [f"missing: {name}" for name in self.missing]


def is_feature_file(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is named as embeddings are, or is a folder of `EmbeddingSet.save`."""
    return Path(path).suffix.lower() in FEATURE_SUFFIXES or is_embedding_folder(Path(path))


def open_features(path: str | os.PathLike[str], names: str | os.PathLike[str] | None = None) -> EmbeddingSet:
    """Embeddings in a folder of `EmbeddingSet.save`, or a file, by its suffix:

    - `.npz` as `faceprint embed` writes it: `path` (N,) and `embedding` floating (N, D); where they are there, `label`,
      `template` and `media`, whole numbers (N,).
    - `.npy`: floating (N, D), memory-mapped where it is float32 or float16.
    - `.bin`: a matrix of `read_matrix`, a row an image; a single column is one image.

    `names` is a text file of a name a line for the latter two; by default FILE.txt beside FILE.npy; without one, rows
    are named by their numbers. float64 becomes float32. Raises `UserError` for anything else.
    """
    where = Path(path)
    if where.is_dir():
        return open_embeddings(where)
    if where.suffix.lower() == ".npz":
        if names is not None:
            raise UserError(f"{path}: has its names in it; leave out names={names}")
        return _read_npz(where)
    if where.suffix.lower() not in FEATURE_SUFFIXES:
        raise UserError(f"{path}: embeddings are a folder or end in {', '.join(FEATURE_SUFFIXES)}")
    vectors = _read_npy(where) if where.suffix.lower() == ".npy" else read_matrix(where)
    if where.suffix.lower() == ".bin" and vectors.shape[1] == 1:
        vectors = vectors.T
    return EmbeddingSet(
        vectors=_as_vectors(vectors, path), names=_names(where, names, len(vectors)), origin={"file": str(path)}
    )


def select_rows(embeddings: EmbeddingSet, keys: Sequence[str] | Sequence[int]) -> EmbeddingSet:
    """The rows that `keys` name, in their order: numbers of rows, or names as `find_rows` takes them.

    Raises `MissingFeaturesError`, and `UserError` for a number beyond the last row.
    """
    if not any(isinstance(key, str) for key in keys):
        rows = np.array(keys, np.int64)
        if rows.max(initial=-1) >= len(embeddings):
            raise UserError(f"{len(embeddings):,} embeddings; this set has at least {rows.max() + 1:,} images")
    else:
        rows = find_rows(embeddings.names, cast("Sequence[str]", keys))
    place = {row: number for number, row in enumerate(rows.tolist())}
    chosen = EmbeddingSet(
        vectors=embeddings.vectors[rows],
        names=[embeddings.names[int(row)] for row in rows],
        unreadable={place[row]: reason for row, reason in embeddings.unreadable.items() if row in place},
        origin=embeddings.origin,
    )
    return with_columns(chosen, {name: values[rows] for name, values in embeddings.columns().items()})


def find_rows(names: Sequence[str], wanted: Sequence[str]) -> Ints:
    """The row of each name `wanted`, (W,), in a list of names of images.

    Compared are as many last parts of a path as the wanted name has, without the suffix of an image: `Ann/Ann_0001` is
    `crops/Ann/Ann_0001.png`. Raises `MissingFeaturesError` with all that are absent, and `UserError` for one that
    several rows have.
    """
    keys = [_parts(name) for name in wanted]
    rows = _by_tail(names, {len(key) for key in keys})
    missing = [name for name, key in zip(wanted, keys, strict=True) if key not in rows]
    if missing:
        raise MissingFeaturesError(missing, len(wanted))
    several = next((name for name, key in zip(wanted, keys, strict=True) if rows[key] < 0), None)
    if several is not None:
        raise UserError(f"several embeddings are of an image {several!r}; leave one of them out")
    return np.array([rows[key] for key in keys], np.int64)


def read_matrix(path: str | os.PathLike[str]) -> NDArray[Any]:
    """A matrix as OpenCV and the MegaFace devkit write it: float32 or float64 (rows, columns).

    Little-endian int32 rows, columns, bytes a row, type (5: float32, 6: float64), then the rows. The devkit's own
    writer says columns x 4 bytes a row for float64 too; that is let pass. Raises `UserError`.
    """
    data = _read_bytes(Path(path))
    if len(data) < _HEADER.size:
        raise UserError(f"{path}: {len(data)} bytes; a matrix begins with 16")
    rows, columns, stride, kind = _HEADER.unpack_from(data)
    if kind not in _CV_TYPES or min(rows, columns) < 1:
        raise UserError(f"{path}: no matrix of float32 or float64: {rows} rows, {columns} columns, type {kind}")
    row_bytes = columns * _CV_TYPES[kind].itemsize
    if stride not in (row_bytes, columns * 4) or len(data) != _HEADER.size + rows * row_bytes:
        raise UserError(
            f"{path}: {rows} x {columns} numbers of type {kind} take {rows * row_bytes} bytes, {row_bytes} a row;"
            f" it has {len(data) - _HEADER.size}, and says {stride} a row"
        )
    return np.frombuffer(data, _CV_TYPES[kind], offset=_HEADER.size).reshape(rows, columns)


def write_matrix(path: str | os.PathLike[str], matrix: NDArray[np.floating[Any]]) -> None:
    """Write (rows, columns), or a vector (D,) as D rows of one column, as the MegaFace devkit reads it: float32.

    The file appears whole or not at all. Raises `UserError`.
    """
    values = np.ascontiguousarray(matrix.reshape(len(matrix), -1), "<f4")
    header = _HEADER.pack(*values.shape, values.shape[1] * 4, 5)
    write_whole(Path(path), header + values.tobytes())


def matrix_features(files: Sequence[str | os.PathLike[str]], names: Sequence[str]) -> EmbeddingSet:
    """One vector a file, as the MegaFace devkit keeps them, as float32 in the order given.

    Raises `MissingFeaturesError` with the names of all files that are not there, and `UserError` for one that holds
    something else or another number of dimensions than the first.
    """
    missing = [name for file, name in zip(files, names, strict=True) if not os.path.isfile(file)]
    if missing:
        raise MissingFeaturesError(missing, len(names))
    if not files:
        raise UserError("there are no files of embeddings to read")
    first = read_matrix(files[0]).size
    vectors = np.empty((len(files), first), np.float32)
    for row, file in enumerate(files):
        matrix = read_matrix(file)
        if matrix.shape not in ((first, 1), (1, first)):
            raise UserError(f"{file}: {matrix.shape[0]} x {matrix.shape[1]} numbers; the first file has {first}")
        vectors[row] = matrix.reshape(-1)
    return EmbeddingSet(vectors=vectors, names=names)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def _guarded(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except _BROKEN as error:
        raise UserError(f"{path}: cannot be read as NumPy writes it ({error})") from error


def _read_npy(path: Path) -> NDArray[Any]:
    return _guarded(path, lambda: np.lib.format.open_memmap(path, mode="r").view(np.ndarray))


def _read_npz(path: Path) -> EmbeddingSet:
    found = _guarded(path, lambda: {member: _member(path, member) for member in _members(path)})
    if not {"path", "embedding"} <= set(found):
        raise UserError(f"{path}: must hold path and embedding, as `faceprint embed` writes them")
    names = found["path"]
    if names.dtype.kind not in "US" or names.ndim != 1:
        raise UserError(f"{path}: path is {names.dtype} {names.shape}; it must be one text an image")
    given = {_MEMBERS[member]: _whole(path, member, found[member]) for member in _MEMBERS if member in found}
    embeddings = EmbeddingSet(
        vectors=_as_vectors(found["embedding"], path),
        names=cast("list[str]", names.astype(str).tolist()),
        origin={"file": str(path)},
    )
    return with_columns(embeddings, given)


def _whole(path: Path, member: str, values: NDArray[Any]) -> Ints:
    if values.dtype.kind not in "iu":
        raise UserError(f"{path}: {member} is {values.dtype}; it must be whole numbers")
    return values.astype(np.int64)


def _members(path: Path) -> list[str]:
    """Those that are read, and there."""
    with zipfile.ZipFile(path) as archive:
        there = set(archive.namelist())
    return [member for member in ("path", "embedding", *_MEMBERS) if f"{member}.npy" in there]


def _member(path: Path, name: str) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(f"{name}.npy")
        if entry.compress_type != zipfile.ZIP_STORED and entry.file_size > _MOST_UNPACKED:
            raise ValueError(f"{name} takes {entry.file_size:,} bytes unpacked; save it uncompressed")
        with archive.open(entry) as file:
            return _read_array(file, entry.file_size)


def _read_array(file: IO[bytes], size: int) -> NDArray[Any]:
    """A `.npy` stream of `size` bytes; its header may not announce more, so that no memory is taken for nothing."""
    version = np.lib.format.read_magic(file)
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = headers[version](file)
    if dtype.hasobject or file.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize != size:
        raise ValueError(f"its header announces {dtype} {shape}, which is not what follows")
    array = np.frombuffer(file.read(), dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _as_vectors(array: NDArray[Any], path: str | os.PathLike[str]) -> Vectors:
    if array.dtype.kind != "f" or array.ndim != 2:
        raise UserError(f"{path}: holds {array.dtype} {array.shape}, not floating (images, dimensions)")
    return cast("Vectors", array if array.dtype.str in ("<f4", "<f2") else array.astype(np.float32))


def _names(path: Path, given: str | os.PathLike[str] | None, rows: int) -> Sequence[str]:
    listed = Path(given) if given is not None else path.with_suffix(".txt")
    if given is None and not listed.is_file():
        return Names(encode_names(map(str, range(rows))))
    return open_names(listed)


def _parts(name: str) -> tuple[str, ...]:
    stem, suffix = os.path.splitext(name.replace("\\", "/"))
    return PurePosixPath(stem if suffix.lower() in IMAGE_SUFFIXES else stem + suffix).parts


def _by_tail(names: Sequence[str], lengths: set[int]) -> dict[tuple[str, ...], int]:
    """The last parts of each name -> its row, -1 where several have them."""
    rows: dict[tuple[str, ...], int] = {}
    for row, name in enumerate(names):
        parts = _parts(name)
        for length in lengths:
            key = parts[-length:]
            rows[key] = -1 if rows.get(key, row) != row else row
    return rows
