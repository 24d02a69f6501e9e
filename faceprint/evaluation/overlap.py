"""People of a training set who are in a test set too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprint.data.source import Source
from faceprint.evaluation.embeddings import Embeds
from faceprint.evaluation.pairs import PairSet
from faceprint.evaluation.protocols import prepared_images
from faceprint.evaluation.source_embeddings import embed_source, near_cosine, robust_centres
from faceprint.files import write_csv
from faceprint.inference.neighbours import nearest
from faceprint.registry import unknown

BY = ("centres", "images")
_CANDIDATES = 5


@dataclass(frozen=True, eq=False)
class Overlap:
    """H hits: test image `image` (H,) is as near to identity `label` (H,) as `cosine` (H,), at least `limit`.

    `names` are those of the test images, `nearest_cosine` (T,) says how near the nearest identity is to each;
    `unreadable` counts images of either set.
    """

    source: Source
    names: list[str]
    limit: float
    image: NDArray[np.int64]
    label: NDArray[np.int64]
    cosine: NDArray[np.float32]
    nearest_cosine: NDArray[np.float32]
    unreadable: int

    def as_dict(self) -> dict[str, Any]:
        """Counts and the limit, no names: plain values for JSON."""
        return {
            "identities": len(self.source.class_names),
            "test_images": len(self.names),
            "limit": round(self.limit, 4),
            "test_images_that_overlap": len(np.unique(self.image)),
            "identities_that_overlap": len(np.unique(self.label)),
            "unreadable": self.unreadable,
        }


def find_overlap(
    embedder: Embeds,
    source: Source,
    test: Source | PairSet,
    *,
    limit: float | None = None,
    by: str = "centres",
    batch_size: int = 64,
    device: str = "auto",
    scratch: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Overlap:
    """The identities of `source` that images of `test` are near to, the five nearest of each.

    `by` "centres" compares with the identities' centres (`robust_centres`), "images" with every image. Near is a cosine
    of `limit`, by default `near_cosine` of the set. Raises as `embed_source` does; of a
    `PairSet` every image must be readable.
    """
    if by not in BY:
        raise unknown("way to compare", by, list(BY))
    embeddings = embed_source(embedder, source, batch_size=batch_size, scratch=scratch, progress=progress)
    centres, labels = robust_centres(embeddings)
    least = near_cosine(embeddings) if limit is None else limit
    vectors, names, unreadable = _embed_test(embedder, test, batch_size, progress)
    gallery, owner = {"centres": (centres, labels), "images": (embeddings.vectors, embeddings.labels)}[by]
    found = nearest(vectors, gallery, min(_CANDIDATES, len(gallery)), device=device)
    image, place = np.nonzero(found.cosine >= least)
    # Nearest first, so the first of several images of one identity is the nearest one.
    hits, first = np.unique(np.stack([image, owner[found.row[image, place]]], 1), axis=0, return_index=True)
    return Overlap(
        source=source,
        names=names,
        limit=least,
        image=hits[:, 0],
        label=hits[:, 1],
        cosine=found.cosine[image, place][first],
        nearest_cosine=found.cosine[:, 0],
        unreadable=len(embeddings.unreadable) + unreadable,
    )


def _embed_test(
    embedder: Embeds, test: Source | PairSet, batch_size: int, progress: Callable[[int, int], None] | None
) -> tuple[NDArray[np.float32], list[str], int]:
    """Embeddings, names, and how many images could not be read."""
    if not isinstance(test, PairSet):
        embedded = embed_source(embedder, test, batch_size=batch_size, progress=progress)
        names = [test.name(index) for index in embedded.indices.tolist()]
        return embedded.vectors, names, len(embedded.unreadable)
    total = len(test.names)
    images = prepared_images(test, embedder.input)
    report = progress and (lambda done, _: progress(done, total))
    return embedder.embed(images, batch_size=batch_size, progress=report), list(test.names), 0


def write_overlap(overlap: Overlap, folder: Path) -> list[Path]:
    """Write `overlap.csv` (class, test, cosine; nearest first) and `exclude.csv` (identity); returns their paths."""
    names = overlap.source.class_names
    order = np.argsort(-overlap.cosine, kind="stable")
    rows = zip(
        overlap.label[order].tolist(), overlap.image[order].tolist(), overlap.cosine[order].tolist(), strict=True
    )
    paths = [folder / "overlap.csv", folder / "exclude.csv"]
    lines = ((names[label], overlap.names[image], round(cosine, 4)) for label, image, cosine in rows)
    write_csv(paths[0], ("class", "test", "cosine"), lines)
    write_csv(paths[1], ("identity",), ((names[label],) for label in np.unique(overlap.label).tolist()))
    return paths
