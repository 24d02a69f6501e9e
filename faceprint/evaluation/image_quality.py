"""Qualities of images: from the length of their embeddings, from dropout, or from a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from faceprint.data.images import Image
from faceprint.data.pair_lists.text import text_lines
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.evaluation.embedding_set import EmbeddingSet
from faceprint.evaluation.quality import stability

Features = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Floats = NDArray[np.float64]

BATCH = 32
_ONE_LENGTH = 1e-3  # float16 vectors of length 1 differ by less
PASSES = 100
"""Passes with dropout for an image, as SER-FIQ publishes."""


def embedding_norms(embeddings: EmbeddingSet) -> Floats:
    """(N,) lengths of the network's outputs, of those made elsewhere the lengths of the vectors.

    Raises `UserError` where all were brought to one length, and nobody says what they had.
    """
    if embeddings.view_norms is not None:
        return embeddings.view_norms.astype(np.float64)
    lengths = np.linalg.norm(embeddings.vectors.astype(np.float64), axis=1)
    if np.ptp(lengths) <= _ONE_LENGTH * lengths.max():
        raise UserError("all embeddings have one length, which tells no quality; give the network, or raw embeddings")
    return lengths


def dropout_stability(features: Features, images: Iterable[Image], spec: InputSpec, passes: int = PASSES) -> Floats:
    """`stability` (N,) of `passes` embeddings of each image by `features`, which vary; raises `UserError` for one."""
    if passes < 2:
        raise UserError(f"passes is {passes}; stability needs at least 2")
    return np.concatenate(
        [stability(np.stack([_unit(features(batch)) for _ in range(passes)])) for batch in _batches(images, spec)]
    )


def read_qualities(path: Path, names: Sequence[str]) -> Floats:
    """(N,) quality of each image by `names`, from a file in CR-FIQA's layout: lines `path quality`, higher is better.

    Paths may begin differently there: images are found by the last two parts of their path without extension, then
    by the last alone. Raises `UserError` for what is no line of that kind, and for images without or with two values.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; quality_of is norm, dropout or a file of lines 'path quality'")
    listed = [_line(path, number, line) for number, line in text_lines(path)]
    for parts in (2, 1):
        values: dict[tuple[str, ...], set[float]] = {}
        for name, value in listed:
            values.setdefault(_end(name, parts), set()).add(value)
        found = [values.get(_end(name, parts), set()) for name in names]
        if all(len(some) == 1 for some in found):
            return np.array([next(iter(some)) for some in found])
    lacking = [name for name, some in zip(names, found, strict=True) if len(some) != 1]
    raise UserError(
        f"{path}: no one quality for {len(lacking):,} of {len(names):,} images, the first {lacking[0]}; lines are"
        " 'path quality'"
    )


def _line(path: Path, number: int, line: str) -> tuple[str, float]:
    name, _, text = line.strip().replace("\t", " ").rpartition(" ")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (_path(name.strip()).name and math.isfinite(value)):
        raise UserError(f"{path}:{number}: expected 'path quality', got {line.strip()[:60]!r}")
    return name.strip(), value


def _end(name: str, parts: int) -> tuple[str, ...]:
    return _path(name).with_suffix("").parts[-parts:]


def _path(name: str) -> PurePath:
    return PurePath(name.replace("\\", "/"))


def _batches(images: Iterable[Image], spec: InputSpec) -> Iterator[NDArray[np.float32]]:
    rest = iter(images)
    while batch := list(islice(rest, BATCH)):
        yield spec.prepare(np.stack(batch))


def _unit(raw: NDArray[np.float32]) -> NDArray[np.float32]:
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)
