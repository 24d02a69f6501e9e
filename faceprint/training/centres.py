"""Centres of identities by a trained network: a table for cleaning data, and where centres of new identities begin."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceprint.data.images import Image, ImageError
from faceprint.data.source import Source
from faceprint.device import resolve_device
from faceprint.errors import UserError
from faceprint.files import write_whole
from faceprint.inference.embedder import Embedder, Floats, load
from faceprint.recipe import load_config
from faceprint.training.sources import build_source

Progress = Callable[[int, int], None]

IMAGES = 1024
"""Embedded at a time, and more only where one identity has more."""
BLOCK = 2048
"""Centres compared with as many others at a time."""


class IdentityRow(NamedTuple):
    """One identity: cosines are between its images' embeddings and its centre, their mean brought to length 1, and
    between its centre and that of the other identity nearest to it."""

    identity: str
    images: int
    mean_cosine: float
    min_cosine: float
    worst_image: str
    nearest_identity: str
    nearest_cosine: float


@dataclass
class IdentityTable:
    """Figures of the C identities of `source`; `images` (C,) counts those that could be read, and where there is none
    the other figures are nan. `unreadable` maps names of images to the reasons."""

    source: Source
    images: NDArray[np.int64]
    mean: NDArray[np.float32]
    lowest: NDArray[np.float32]
    nearest_cosine: NDArray[np.float32]
    worst: NDArray[np.int64]
    nearest: NDArray[np.int64]
    unreadable: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def empty(cls, source: Source) -> IdentityTable:
        count = len(source.class_names)
        counts, worst, nearest = np.zeros((3, count), np.int64)
        mean, lowest, nearest_cosine = np.full((3, count), np.nan, np.float32)
        return cls(source, counts, mean, lowest, nearest_cosine, worst, nearest)

    def rows(self) -> Iterator[IdentityRow]:
        """The identities with images, the most suspicious first: those whose images lie far from their own centre for
        how near it is to another's (mean cosine - nearest cosine, rising)."""
        present = np.flatnonzero(self.images)
        order = np.argsort((self.mean - self.nearest_cosine)[present], kind="stable")
        return map(self._row, present[order].tolist())

    def write_csv(self, path: Path) -> None:
        """Write `rows` as CSV with a header, whole or not at all. Raises `UserError`."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(IdentityRow._fields)
        for row in self.rows():
            writer.writerow([f"{value:.4f}" if isinstance(value, float) else value for value in row])
        write_whole(path, text.getvalue().encode())

    def _row(self, label: int) -> IdentityRow:
        return IdentityRow(
            self.source.class_names[label],
            int(self.images[label]),
            float(self.mean[label]),
            float(self.lowest[label]),
            self.source.name(int(self.worst[label])),
            self.source.class_names[int(self.nearest[label])],
            float(self.nearest_cosine[label]),
        )


def examine_run(run: Path, assignments: list[str], progress: Progress | None = None) -> IdentityTable:
    """The table of a run's training data by its model. `assignments` change its configuration, such as `data.path=…`.

    Raises `UserError` for a folder that is no run, and as `build_source` and `Embedder.embed` do.
    """
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run}: not a run folder: it has no config.yaml, which says what was trained on")
    config = load_config(str(run / "config.yaml"), assignments)
    source = build_source(config.data, config.network.image_size)
    return examine(load(run, device=config.device), source, resolve_device(config.device), progress)


def examine(
    embedder: Embedder, source: Source, device: torch.device, progress: Progress | None = None
) -> IdentityTable:
    """The table of `source` by the embeddings of `embedder`; centres are compared on `device`.

    Keeps one centre an identity, and embeddings of `IMAGES` images or of the largest identity. `progress` gets
    (images done, images in all). Raises `UserError` where fewer than two identities have an image that can be read.
    """
    table = IdentityTable.empty(source)
    centres = np.zeros((len(source.class_names), embedder.embedding_dim), np.float32)
    done = 0
    for chunk in whole_identities(source.labels, IMAGES):
        kept, embeddings = embed_readable(embedder, source, chunk, table.unreadable)
        labels = source.labels[kept]
        for label in np.unique(labels):
            own = labels == label
            _measure(table, centres, int(label), kept[own], embeddings[own])
        done += len(chunk)
        if progress:
            progress(done, len(source))
    present = np.flatnonzero(table.images)
    if len(present) < 2:
        reasons = "; ".join(list(table.unreadable.values())[:3])
        raise UserError(f"fewer than two identities have an image that can be read: {reasons}")
    others, cosines = nearest_others(torch.from_numpy(centres[present]).to(device))
    table.nearest[present], table.nearest_cosine[present] = present[others], cosines
    return table


def whole_identities(labels: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """The indices of `labels` (N,) identity by identity, in parts of at least `size`, none of which divides one."""
    order = np.argsort(labels, kind="stable")
    ends = np.flatnonzero(np.diff(labels[order], append=-1)) + 1
    start = 0
    for end in ends.tolist():
        if end - start >= size or end == len(order):
            yield order[start:end]
            start = end


def nearest_others(centres: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each of the unit vectors (C, D), C >= 2, the number (C,) of the other one with the largest cosine, and that
    cosine. Products are made in blocks, so that C x C is never stored.
    """
    numbers = torch.zeros(len(centres), dtype=torch.int64, device=centres.device)
    best = torch.full((len(centres),), -torch.inf, device=centres.device)
    for first in range(0, len(centres), BLOCK):
        rows = slice(first, first + BLOCK)
        for other in range(0, len(centres), BLOCK):
            cosine = centres[rows] @ centres[other : other + BLOCK].T
            if first == other:
                cosine.fill_diagonal_(-torch.inf)
            highest, place = cosine.max(1)
            better = highest > best[rows]
            best[rows] = torch.where(better, highest, best[rows])
            numbers[rows] = torch.where(better, place + other, numbers[rows])
    return numbers.cpu().numpy(), best.cpu().numpy()


def mean_embeddings(
    embedder: Embedder, source: Source, labels: NDArray[np.int64], images: int
) -> tuple[Floats, dict[str, str]]:
    """The mean embedding of each of the identities `labels` (M,), over its first `images` images: float32 (M, D).

    A row of zeros where none of them can be read; names of those that cannot, with the reasons, are given back.
    """
    chosen = first_images(source.labels, labels, images)
    place = np.full(len(source.class_names), -1, np.int64)
    place[labels] = np.arange(len(labels))
    sums, counts = np.zeros((len(labels), embedder.embedding_dim), np.float32), np.zeros(len(labels), np.float32)
    unreadable: dict[str, str] = {}
    for first in range(0, len(chosen), IMAGES):
        kept, embeddings = embed_readable(embedder, source, chosen[first : first + IMAGES], unreadable)
        np.add.at(sums, place[source.labels[kept]], embeddings)
        np.add.at(counts, place[source.labels[kept]], 1)
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32), unreadable


def first_images(labels: NDArray[np.int64], wanted: NDArray[np.int64], images: int) -> NDArray[np.int64]:
    """The indices of `labels` (N,) that are among the first `images` of one of the labels `wanted`, label by label."""
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    place = np.arange(len(order)) - np.repeat(starts, counts)
    return order[(place < images) & np.isin(labels[order], wanted)]


def embed_readable(
    embedder: Embedder, source: Source, indices: NDArray[np.int64], unreadable: dict[str, str]
) -> tuple[NDArray[np.int64], Floats]:
    """Those of `indices` that can be read, and their embeddings; the others go to `unreadable`."""
    kept: list[int] = []

    def images() -> Iterator[Image]:
        for index in indices.tolist():
            try:
                image = source[index][0]
            except ImageError as error:
                unreadable[source.name(index)] = str(error)
                continue
            kept.append(index)
            yield image

    embeddings = embedder.embed(images())
    return np.array(kept, np.int64), embeddings


def _measure(table: IdentityTable, centres: Floats, label: int, indices: NDArray[np.int64], embeddings: Floats) -> None:
    total = embeddings.sum(0, dtype=np.float64)
    centres[label] = total / max(float(np.linalg.norm(total)), 1e-12)
    cosines = embeddings @ centres[label]
    table.images[label] = len(indices)
    table.mean[label], table.lowest[label] = cosines.mean(), cosines.min()
    table.worst[label] = indices[int(cosines.argmin())]
