"""Embeddings of N images with their names and labels: what every protocol scores, and the folder they are kept in."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from faceprint.errors import UserError
from faceprint.evaluation.names import encode_names, open_names
from faceprint.files import write_whole

Vectors = NDArray[np.float32] | NDArray[np.float16]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

FORMAT = "faceprint-embeddings/1"
META, VECTORS, NAMES = "meta.json", "embeddings.npy", "names.txt"
_DTYPES = ("float32", "float16")
_MOST_META = 64 << 20
_CHUNK = 1 << 16
_COLUMNS = {"norms": "float32", "view_norms": "float32", "labels": "int64", "templates": "int64", "media": "int64"}


@dataclass(frozen=True, eq=False, kw_only=True)
class EmbeddingSet:
    """`vectors` (N, D) float32 or float16, row i of the image `names[i]`; memory-mapped where they come from a folder.

    Vectors of our own networks have length 1, and `norms` (N,) float32 are the lengths that they had: norms[:, None] *
    vectors are the raw embeddings, with flip f(x) + f(mirrored x). `view_norms` (N,) are the mean lengths of f(x) and,
    with flip, f(mirrored x). Vectors made elsewhere are as they were found, and have neither.
    `labels`, `templates` and `media` (N,) int64 are numbers of identities, templates and media; None: not known.
    `unreadable` maps rows whose image could not be read to the reason; those vectors are zero.
    `origin` says how the set was made, in plain values. `computed` counts the rows that were computed for this very
    object, by all processes together; the others were found.

    Raises `UserError` where lengths or types do not fit.
    """

    vectors: Vectors
    names: Sequence[str]
    norms: Floats | None = None
    view_norms: Floats | None = None
    labels: Ints | None = None
    templates: Ints | None = None
    media: Ints | None = None
    unreadable: Mapping[int, str] = field(default_factory=dict[int, str])
    origin: Mapping[str, Any] = field(default_factory=dict[str, Any])
    computed: int = 0

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.dtype not in _DTYPES:
            given = f"{self.vectors.dtype} {self.vectors.shape}"
            raise UserError(f"embeddings are {given}; they must be float32 or float16 (images, dimensions)")
        if len(self.names) != len(self.vectors):
            raise UserError(f"{len(self.vectors):,} embeddings and {len(self.names):,} names; each has one")
        for column, values in self.columns().items():
            if values.shape != (len(self),) or values.dtype != _COLUMNS[column]:
                given = f"{values.dtype} {values.shape}"
                raise UserError(f"{column} are {given}; they must be {_COLUMNS[column]} ({len(self)},)")

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def embedding_dim(self) -> int:
        return int(self.vectors.shape[1])

    def columns(self) -> dict[str, NDArray[Any]]:
        """Those of norms, view_norms, labels, templates and media that are known, by name."""
        named = {name: cast("NDArray[Any] | None", getattr(self, name)) for name in _COLUMNS}
        return {name: values for name, values in named.items() if values is not None}

    def content_hash(self) -> str:
        """SHA-256 of vectors, names, columns and unreadable rows: "sha256:" and 64 hexadecimal digits.

        A set in memory and the same in a folder have the same; `origin` does not count.
        """
        digest = hashlib.sha256(self._header().encode())
        for values in (self.vectors, *self.columns().values()):
            for start in range(0, len(values), _CHUNK):  # bounds the memory, whatever N
                digest.update(np.ascontiguousarray(values[start : start + _CHUNK]).data)
        digest.update(encode_names(self.names))
        return f"sha256:{digest.hexdigest()}"

    def _header(self) -> str:
        shape = [str(self.vectors.dtype), *self.vectors.shape]
        return json.dumps([FORMAT, shape, list(self.columns()), sorted(self.unreadable)])

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the set as `folder`, which appears whole or not at all, and takes the place of another such set.

        Raises `UserError` where it cannot be written, or is a folder of something else.
        """
        target = Path(folder)
        if target.exists() and not (target / META).is_file():
            raise UserError(f"{target}: is in the way, and is no set of embeddings; remove it or choose another name")
        partial = target.with_name(f".{target.name}.{uuid4().hex}.partial")
        try:
            partial.mkdir(parents=True)
            try:
                for name, values in {Path(VECTORS).stem: self.vectors, **self.columns()}.items():
                    np.save(partial / f"{name}.npy", values)
                describe(self, partial)
                publish(partial, target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        except OSError as error:
            raise UserError(f"{target}: cannot be written ({error.strerror or error})") from error


def with_columns(embeddings: EmbeddingSet, columns: Mapping[str, Any]) -> EmbeddingSet:
    """`embeddings` with norms, view_norms, labels, templates or media, by name. Raises `UserError` for wrong ones."""
    return replace(embeddings, **columns)


def describe(embeddings: EmbeddingSet, folder: Path) -> None:
    """Write names and `meta.json` beside the arrays in `folder`; with them it is a set."""
    write_whole(folder / NAMES, encode_names(embeddings.names))
    meta = {
        "format": FORMAT,
        "rows": len(embeddings),
        "embedding_dim": embeddings.embedding_dim,
        "dtype": str(embeddings.vectors.dtype),
        "columns": list(embeddings.columns()),
        "unreadable": {str(row): reason for row, reason in embeddings.unreadable.items()},
        "origin": dict(embeddings.origin),
        "content_hash": embeddings.content_hash(),
    }
    write_whole(folder / META, (json.dumps(meta, indent=2) + "\n").encode())


def publish(partial: Path, target: Path) -> None:
    """Give the finished folder its name, in the place of an earlier one."""
    if target.exists():
        shutil.rmtree(target)
    os.rename(partial, target)


def is_embedding_folder(path: Path) -> bool:
    """Whether `path` looks like a folder that `EmbeddingSet.save` wrote."""
    return (path / META).is_file() and (path / VECTORS).is_file()


def open_embeddings(folder: str | os.PathLike[str], *, verify: bool = False) -> EmbeddingSet:
    """A set that `EmbeddingSet.save` or the cache wrote; vectors and columns are read-only memory maps.

    With `verify` everything is read and compared with the content hash. Raises `UserError` for anything that is no such
    set, whole.
    """
    where = Path(folder)
    meta = _read_meta(where / META)
    rows, dim, dtype, columns = meta["rows"], meta["embedding_dim"], meta["dtype"], meta["columns"]
    found = EmbeddingSet(
        vectors=cast("Vectors", open_array(where / VECTORS, (rows, dim), dtype)),
        names=open_names(where / NAMES),
        unreadable=_unreadable(meta["unreadable"], rows, where / META),
        origin=meta["origin"],
    )
    found = with_columns(found, {name: open_array(where / f"{name}.npy", (rows,), _COLUMNS[name]) for name in columns})
    if verify and found.content_hash() != meta["content_hash"]:
        raise UserError(f"{where}: is not what was written: its content hash is another; make it again")
    return found


def open_array(path: Path, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """A `.npy` file of this shape and type, memory-mapped, read-only. Raises `UserError` for any other."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as a .npy file ({error})") from error
    if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
        raise UserError(f"{path}: holds {array.dtype} {array.shape}, not {dtype} {shape}")
    return array.view(np.ndarray)


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content: object = json.loads(file.read(_MOST_META))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as the description of a set of embeddings ({error})") from error
    kinds = {"rows": int, "embedding_dim": int, "dtype": str, "columns": list, "unreadable": dict, "origin": dict}
    meta = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    wrong = [key for key, kind in {**kinds, "content_hash": str}.items() if not isinstance(meta.get(key), kind)]
    if wrong or meta.get("format") != FORMAT:
        raise UserError(f"{path}: is no description of a set of embeddings ({', '.join(wrong) or 'another format'})")
    if meta["dtype"] not in _DTYPES or not all(name in _COLUMNS for name in meta["columns"]):
        raise UserError(
            f"{path}: dtype {meta['dtype']!r}, columns {meta['columns']!r}; allowed: {_DTYPES}, {[*_COLUMNS]}"
        )
    return meta


def _unreadable(given: Mapping[str, Any], rows: int, path: Path) -> dict[int, str]:
    if not all(row.isascii() and row.isdecimal() and len(row) < 19 and int(row) < rows for row in given):
        raise UserError(f"{path}: unreadable must name rows from 0 to {rows - 1}")
    return {int(row): str(reason) for row, reason in given.items()}
