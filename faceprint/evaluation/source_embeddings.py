"""Embeddings of a whole labelled set, and the centres of its identities."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from numpy.typing import NDArray

from faceprint.data.images import Image, ImageError
from faceprint.data.source import Source
from faceprint.errors import UserError
from faceprint.evaluation.embeddings import Embeds

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_BLOCK = 2048
_IN_MEMORY = 2 * 2**30  # bytes; more is kept in a file
_STEPS = 3


@dataclass(frozen=True, eq=False)
class SourceEmbeddings:
    """`vectors` (M, D) float32, each of length 1, of the images `indices` (M,) of a source, with their `labels` (M,).

    Images that cannot be read are not among them; `unreadable` says which and why.
    """

    vectors: Floats
    indices: Ints
    labels: Ints
    unreadable: list[tuple[int, str]]


def embed_source(
    embedder: Embeds,
    source: Source,
    indices: Ints | None = None,
    *,
    flip: bool = False,
    batch_size: int = 64,
    scratch: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SourceEmbeddings:
    """Embed the images `indices` of `source`, all where None, each once, block by block.

    More than 2 GiB of embeddings are kept in a nameless file in the folder `scratch` (None: the system's), which
    goes when they go. `progress` gets (images done, images in all). Raises `UserError` for an image of another size
    than the network takes, and where no image can be read.
    """
    wanted = np.arange(len(source)) if indices is None else indices
    reader = _Reader(source, embedder)
    vectors: Floats | None = None
    done = 0
    for start in range(0, len(wanted), _BLOCK):
        block = wanted[start : start + _BLOCK]
        rows = embedder.embed(reader.images(block), flip=flip, batch_size=batch_size)
        vectors = _space(len(wanted), rows.shape[1], scratch) if vectors is None else vectors
        vectors[done : done + len(rows)] = rows
        done += len(rows)
        if progress:
            progress(start + len(block), len(wanted))
    if vectors is None or not done:
        raise UserError(f"none of {len(wanted):,} images can be read; see `faceprint data check`")
    read = np.array(reader.read, np.int64)
    return SourceEmbeddings(vectors[:done], read, source.labels[read], reader.unreadable)


@dataclass
class _Reader:
    """Reads images for the network, and notes which could be read."""

    source: Source
    embedder: Embeds
    read: list[int] = field(default_factory=list[int])
    unreadable: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])

    def images(self, indices: Ints) -> Iterator[Image]:
        for index in indices.tolist():
            try:
                image, _ = self.source[index]
            except ImageError as error:
                self.unreadable.append((index, str(error)))
                continue
            self.embedder.input.check(image, self.source.name(index))
            self.read.append(index)
            yield image


def _space(rows: int, columns: int, scratch: Path | None) -> Floats:
    if rows * columns * 4 <= _IN_MEMORY:
        return np.empty((rows, columns), np.float32)
    return np.memmap(TemporaryFile(dir=scratch), np.float32, "w+", shape=(rows, columns))


def robust_centres(embeddings: SourceEmbeddings) -> tuple[Floats, Ints]:
    """The centres of the identities that have a readable image, float32 (C, D) of length 1, and their labels (C,)."""
    order = np.argsort(embeddings.labels, kind="stable")
    labels, starts = np.unique(embeddings.labels[order], return_index=True)
    ends = np.append(starts[1:], len(order))
    centres = np.empty((len(labels), embeddings.vectors.shape[1]), np.float32)
    for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        centres[row] = robust_centre(embeddings.vectors[order[start:end]])
    return centres, labels.astype(np.int64)


def robust_centre(vectors: Floats) -> Floats:
    """The direction (D,) of the mean of that half of `vectors` (N, D) that lies closest together.

    Begun with the mean of all, the half nearest to it is averaged, three times (the concentration steps of Rousseeuw
    and Van Driessen, "A fast algorithm for the minimum covariance determinant estimator", 1999): the wrong images of
    an identity do not draw the centre to themselves while they are fewer. Of one or two all count.
    """
    kept = vectors
    for _ in range(_STEPS if len(vectors) > 2 else 0):
        nearest = np.argsort(-(vectors @ kept.mean(axis=0)), kind="stable")
        kept = vectors[nearest[: len(vectors) // 2 + 1]]
    mean = kept.mean(axis=0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def unseen_cosines(embeddings: SourceEmbeddings) -> Floats:
    """How near images are to the mean of the others of their identity: cosines (U,), of identities with two or more.

    With S the sum of an identity's vectors, the cosine of v to S - v.
    """
    order = np.argsort(embeddings.labels, kind="stable")
    starts, counts = np.unique(embeddings.labels[order], return_index=True, return_counts=True)[1:]
    cosines = [np.empty(0, np.float32)]
    for start, count in zip(starts[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True):
        own = embeddings.vectors[order[start : start + count]]
        others = own.sum(axis=0) - own
        cosines.append(np.einsum("nd,nd->n", own, others) / np.maximum(np.linalg.norm(others, axis=1), 1e-12))
    return np.concatenate(cosines)


def near_cosine(embeddings: SourceEmbeddings) -> float:
    """The cosine that nine in ten images have to the others of their identity: what is nearer is taken for one person.

    Raises `UserError` where no identity has two images.
    """
    cosines = unseen_cosines(embeddings)
    if not len(cosines):
        raise UserError("no identity has two images, so what is near cannot be measured; give a cosine")
    return float(np.quantile(cosines, 0.1))
