"""What a network finds wrong in a labelled set: images of somebody else, and one person under two names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprint.data.source import Source
from faceprint.errors import UserError
from faceprint.evaluation.embeddings import Embeds
from faceprint.evaluation.source_embeddings import (
    SourceEmbeddings,
    embed_source,
    near_cosine,
    robust_centres,
)
from faceprint.files import write_csv
from faceprint.inference.neighbours import Neighbours, nearest

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

FALSE_MATCH = 1e-3
"""Share of strangers whose cosine to a centre is above the limit below which an image is no better than a stranger."""
_SAMPLE = 200_000
_CANDIDATES = 5
_PART = 65536


@dataclass(frozen=True, eq=False)
class Cleaning:
    """What was found in `source`.

    `outliers` (O,) are rows of `embeddings` whose cosine to the centre of their identity, `own_cosine` (M,), is below
    `outlier_limit`; `other` and `other_cosine` (O,) are the labels nearest to them and how near. `alike` (A, 2) are
    labels whose centres have the cosines `alike_cosine` (A,), above `alike_limit`.
    """

    source: Source
    embeddings: SourceEmbeddings
    own_cosine: Floats
    outlier_limit: float
    outliers: Ints
    other: Ints
    other_cosine: Floats
    alike_limit: float
    alike: Ints
    alike_cosine: Floats

    def as_dict(self) -> dict[str, Any]:
        """Counts and limits, no names: plain values for JSON."""
        return {
            "images": len(self.embeddings.indices),
            "unreadable": len(self.embeddings.unreadable),
            "identities": len(np.unique(self.embeddings.labels)),
            "outlier_limit": round(self.outlier_limit, 4),
            "outliers": len(self.outliers),
            "alike_limit": round(self.alike_limit, 4),
            "alike_pairs": len(self.alike),
        }


def clean_source(
    embedder: Embeds,
    source: Source,
    *,
    outlier_limit: float | None = None,
    alike_limit: float | None = None,
    batch_size: int = 64,
    device: str = "auto",
    scratch: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Cleaning:
    """Embed `source` once, as `embed_source` does, and ask `find_wrong`. Raises as they do."""
    embeddings = embed_source(embedder, source, batch_size=batch_size, scratch=scratch, progress=progress)
    return find_wrong(source, embeddings, outlier_limit=outlier_limit, alike_limit=alike_limit, device=device)


def find_wrong(
    source: Source,
    embeddings: SourceEmbeddings,
    *,
    outlier_limit: float | None = None,
    alike_limit: float | None = None,
    device: str = "auto",
) -> Cleaning:
    """Outliers of the identities of `source`, and identities that look alike, by its `embeddings`.

    An image is an outlier where its cosine to the centre of its identity (`robust_centres`) is below `outlier_limit`,
    by default the one that 1 in 1,000 strangers reaches, measured on images and centres of other identities: it is no
    more like its identity than anybody. Two identities look alike where their centres' cosine is above `alike_limit`,
    by default `near_cosine`, what nine in ten images have to the others of their identity. Raises `UserError` for
    fewer than two identities, and where `near_cosine` has nothing to go by.
    """
    centres, labels = robust_centres(embeddings)
    if len(labels) < 2:
        raise UserError("cleaning compares identities; the set has a single one")
    own = np.searchsorted(labels, embeddings.labels)
    own_cosine = paired_cosine(embeddings.vectors, centres, own)
    low = stranger_limit(embeddings.vectors, centres, own) if outlier_limit is None else outlier_limit
    high = near_cosine(embeddings) if alike_limit is None else alike_limit
    outliers = np.flatnonzero(own_cosine < low)
    other = _nearest_other(embeddings.vectors[outliers], own[outliers], centres, device)
    alike, alike_cosine = _alike(centres, high, device)
    return Cleaning(
        source=source,
        embeddings=embeddings,
        own_cosine=own_cosine,
        outlier_limit=low,
        outliers=outliers,
        other=labels[other.row[:, 0]],
        other_cosine=other.cosine[:, 0],
        alike_limit=high,
        alike=labels[alike],
        alike_cosine=alike_cosine,
    )


def _nearest_other(vectors: Floats, own: Ints, centres: Floats, device: str) -> Neighbours:
    """The nearest centre of each vector but its own."""
    rows = np.arange(len(centres))
    return nearest(vectors, centres, 1, query_class=own, gallery_class=rows, device=device)


def paired_cosine(vectors: Floats, centres: Floats, rows: Ints) -> Floats:
    """The cosine (M,) of each of `vectors` (M, D) to the centre at its row `rows` (M,)."""
    cosine = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _PART):  # bounds the memory of the gathered centres
        part = slice(start, start + _PART)
        cosine[part] = np.einsum("md,md->m", vectors[part], centres[rows[part]])
    return cosine


def stranger_limit(vectors: Floats, centres: Floats, own: Ints, false_match: float = FALSE_MATCH) -> float:
    """The cosine that a share `false_match` of images reach to centres of other identities.

    Measured on 200,000 pairs of an image and another identity's centre, always the same.
    """
    random = np.random.default_rng(0)
    images = np.sort(random.integers(len(vectors), size=_SAMPLE))
    others = (own[images] + random.integers(1, len(centres), size=_SAMPLE)) % len(centres)
    cosine = np.concatenate(
        [
            np.einsum("md,md->m", vectors[images[part]], centres[others[part]])
            for part in (slice(start, start + _PART) for start in range(0, _SAMPLE, _PART))
        ]
    )
    return float(np.quantile(cosine, 1 - false_match))


def _alike(centres: Floats, limit: float, device: str) -> tuple[Ints, Floats]:
    """Pairs of rows (A, 2) of `centres` with a cosine of at least `limit`, among the five nearest, nearest first."""
    rows = np.arange(len(centres))
    found = nearest(
        centres, centres, min(_CANDIDATES, len(rows) - 1), query_class=rows, gallery_class=rows, device=device
    )
    a, place = np.nonzero(found.cosine >= limit)
    pairs = np.sort(np.stack([a, found.row[a, place]], axis=1), axis=1)
    pairs, first = np.unique(pairs, axis=0, return_index=True)
    cosine = found.cosine[a, place][first]
    order = np.argsort(-cosine, kind="stable")
    return pairs[order], cosine[order]


def write_cleaning(cleaning: Cleaning, folder: Path) -> list[Path]:
    """Write the lists, each with a header, and return their paths.

    `outliers.csv`: path, class, cosine, nearest_class, nearest_cosine, least like their identity first. `alike.csv`:
    identity_a, images_a, identity_b, images_b, cosine. `exclude.csv`: the path of each outlier, and of what cannot be
    read. Raises `UserError` where `folder` cannot be written.
    """
    names = cleaning.source.class_names
    path_of = cleaning.source.name
    order = np.argsort(cleaning.own_cosine[cleaning.outliers], kind="stable").tolist()
    rows = cleaning.outliers[order]
    indices = cleaning.embeddings.indices[rows].tolist()
    outliers = zip(
        map(path_of, indices),
        (names[label] for label in cleaning.embeddings.labels[rows].tolist()),
        _rounded(cleaning.own_cosine[rows]),
        (names[label] for label in cleaning.other[order].tolist()),
        _rounded(cleaning.other_cosine[order]),
        strict=True,
    )
    counts = np.bincount(cleaning.source.labels, minlength=len(names))
    alike = (
        (names[a], int(counts[a]), names[b], int(counts[b]), cosine)
        for (a, b), cosine in zip(cleaning.alike.tolist(), _rounded(cleaning.alike_cosine), strict=True)
    )
    unreadable = [index for index, _ in cleaning.embeddings.unreadable]
    paths = [folder / name for name in ("outliers.csv", "alike.csv", "exclude.csv")]
    write_csv(paths[0], ("path", "class", "cosine", "nearest_class", "nearest_cosine"), outliers)
    write_csv(paths[1], ("identity_a", "images_a", "identity_b", "images_b", "cosine"), alike)
    write_csv(paths[2], ("path",), ((path_of(index),) for index in sorted([*indices, *unreadable])))
    return paths


def _rounded(cosine: Floats) -> list[float]:
    return [round(value, 4) for value in cosine.tolist()]
