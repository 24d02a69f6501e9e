"""Other orders and parts of a labelled set, and several as one. Nothing here reads an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceprint.data.mixed import MixedSource, mix
from faceprint.data.name_list import NameList
from faceprint.data.source import Source, Subset, keep_images
from faceprint.errors import UserError
from faceprint.registry import unknown


def shuffled(source: Source, seed: int) -> Subset:
    """All images of `source` in an order that `seed` alone decides."""
    return keep_images(source, np.random.default_rng(_checked_seed(seed)).permutation(len(source)))


def merged(sources: Sequence[Source], classes: str) -> MixedSource:
    """The images of all `sources`, one set after the other.

    `classes="separate"`: every identity of every set is a person of its own, also where two sets use one name.
    `classes="by-name"`: identities of one name are one person; names keep the order in which they first come.
    """
    if classes not in ("separate", "by-name"):
        raise unknown("way to merge classes", classes, ["separate", "by-name"])
    if not sources:
        raise UserError("there is no set to merge; give one or more")
    return mix(sources, by_name=classes == "by-name")


def divided(source: Source, fractions: Sequence[float], *, by: str, seed: int) -> list[Subset]:
    """`source` in as many parts as `fractions`, whose sum is 1; images keep their order.

    `by="identity"`: no identity is in two parts, and the fractions are of identities, rounded so that each is in one
    part. `by="image"`: each identity's images are dealt out, so that every part has its share of every identity, as
    far as there are enough. Raises `UserError` for fractions that are none and for a part that would be empty.
    """
    ends = _ends(fractions)
    if by not in ("identity", "image"):
        raise unknown("way to split", by, ["identity", "image"])
    generator = np.random.default_rng(_checked_seed(seed))
    places = _identity_places(source, generator) if by == "identity" else _image_places(source, generator)
    part_of = np.searchsorted(ends, places, side="right")
    parts = [np.flatnonzero(part_of == part) for part in range(len(ends))]
    for fraction, indices in zip(fractions, parts, strict=True):
        if not len(indices):
            raise UserError(f"fraction {fraction:g} of this set, by {by}, is no image; give larger fractions")
    return [keep_images(source, indices) for indices in parts]


def _ends(fractions: Sequence[float]) -> NDArray[np.float64]:
    wrong = [fraction for fraction in fractions if not 0 < fraction <= 1]
    if wrong or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        given = ", ".join(f"{fraction:g}" for fraction in fractions)
        raise UserError(f"fractions {given}: give numbers above 0 whose sum is 1, such as 0.9,0.1")
    ends = np.cumsum(fractions)
    ends[-1] = 1
    return ends - 1e-9  # a sum such as 0.1 + 0.2 is not above 0.3


def _identity_places(source: Source, generator: np.random.Generator) -> NDArray[np.float64]:
    """(N,) where in [0, 1) the identity of each image stands."""
    count = len(source.class_names)
    return (generator.permutation(count) / count)[source.labels]


def _image_places(source: Source, generator: np.random.Generator) -> NDArray[np.float64]:
    """(N,) where in [0, 1) each image stands among those of its identity, at random distances from the start."""
    order = np.lexsort((generator.random(len(source)), source.labels))
    counts = np.bincount(source.labels, minlength=len(source.class_names))
    starts = np.cumsum(counts) - counts
    labels = source.labels[order]
    places = np.empty(len(source))
    places[order] = (np.arange(len(source)) - starts[labels] + generator.random(len(counts))[labels]) / counts[labels]
    return places


def chosen(
    source: Source,
    *,
    identities: NameList | None = None,
    images: NameList | None = None,
    exclude: NameList | None = None,
    min_images: int = 1,
    max_images: int | None = None,
    first: int | None = None,
    seed: int = 0,
) -> Subset:
    """The part of `source` that all conditions leave, in its order; identities of whom nothing is left go.

    `identities` and `images` keep what they list, `exclude` drops it; then go the identities with fewer than
    `min_images`, then of those with more than `max_images` all but as many, drawn by `seed`; then `first` keeps as
    many images from the start. Raises `UserError` where a list names what the set has not, and where nothing is left.
    """
    for name, value in (("min_images", min_images), ("max_images", max_images), ("first", first)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value}: give 1 or more")
    keep = np.ones(len(source), bool)
    for listed in (identities, images):
        if listed is not None:
            keep &= listed.among(source)
    if exclude is not None:
        keep &= ~exclude.among(source)
    counts = np.bincount(source.labels[keep], minlength=len(source.class_names))
    keep &= (counts >= min_images)[source.labels]
    if max_images is not None:
        keep &= _drawn(source.labels, keep, max_images, _checked_seed(seed))
    indices = np.flatnonzero(keep)[:first]
    if not len(indices):
        raise UserError("no image meets all the conditions; loosen one of them")
    return keep_images(source, indices)


def _drawn(labels: NDArray[np.int64], keep: NDArray[np.bool_], most: int, seed: int) -> NDArray[np.bool_]:
    """Of the images in `keep`, at most `most` of each label, at random."""
    indices = np.flatnonzero(keep)
    order = np.lexsort((np.random.default_rng(seed).random(len(indices)), labels[indices]))
    grouped = labels[indices][order]
    counts = np.bincount(grouped, minlength=1)
    rank = np.arange(len(order)) - (np.cumsum(counts) - counts)[grouped]
    drawn = np.zeros(len(labels), bool)
    drawn[indices[order[rank < most]]] = True
    return drawn


def _checked_seed(seed: int) -> int:
    if seed < 0:
        raise UserError(f"seed {seed}: give 0 or more")
    return seed
