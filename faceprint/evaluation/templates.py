"""Templates: one vector for several images of a person, and scores of pairs of them. NumPy in, NumPy out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceprint.errors import UserError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rows = Ints | NDArray[np.int32]

_ROWS = 1024
_SCORES = 1 << 27
"""Of a block: 512 MiB, which all of IJB-C fits in; so there is nothing to sort."""


@dataclass(frozen=True, eq=False)
class Templates:
    """`vectors` (T, D) float32 of length 1, row i of the template `ids[i]`; `ids` (T,) rise. Those of `empty` (T,) bool
    have nothing in them, and are zero."""

    ids: Ints
    vectors: NDArray[np.float32]
    empty: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: ArrayLike) -> Ints:
        """The row of each template. Raises `UserError` for one that is not there."""
        return rows_of(self.ids, ids)


def rows_of(known: Ints, ids: ArrayLike) -> Ints:
    """The place of each of `ids` among the rising numbers `known`. Raises `UserError` for one that is not there."""
    wanted = np.asarray(ids, np.int64)
    rows = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
    absent = wanted if not len(known) else wanted[known[rows] != wanted]
    if len(absent):
        raise UserError(f"{len(np.unique(absent)):,} templates have no image, the first is {int(absent[0])}")
    return rows


def image_weights(template_ids: ArrayLike, media_ids: ArrayLike, scores: ArrayLike | None = None) -> Floats:
    """What each image counts in its template, (N,): its `scores` (1 where None) / images of its template and medium.

    A weighted sum by it is the mean over the images of each medium, summed over the media.

    >>> image_weights([1, 1, 1], [7, 7, 8]).tolist()
    [0.5, 0.5, 1.0]
    """
    pairs = np.stack([np.asarray(template_ids, np.int64), np.asarray(media_ids, np.int64)], axis=1)
    _, group, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    given = np.ones(len(pairs)) if scores is None else np.asarray(scores, np.float64)
    return given / counts[group.reshape(-1)]


def pool_templates(features: NDArray[np.floating[Any]], template_ids: ArrayLike, weights: ArrayLike) -> Templates:
    """t_i = sum over the images n of template i of weights[n] features[n], brought to length 1.

    The product W F of a sparse matrix (T, N), one entry a column, with the features F (N, D), in float64. They are
    read once, from first to last, a block at a time: F may be a memory map. Raises `UserError` for features that are
    not finite, naming the row.
    """
    ids, template = np.unique(np.asarray(template_ids, np.int64), return_inverse=True)
    template, weights = template.reshape(-1), np.asarray(weights, np.float64)
    sums = np.zeros((len(ids), features.shape[1]))
    for start in range(0, len(features), _ROWS):
        _add(sums, features[start : start + _ROWS], template[start : start + _ROWS], weights[start : start + _ROWS])
    lengths = np.linalg.norm(sums, axis=1)
    if not np.isfinite(lengths).all():
        raise UserError(f"template {ids[~np.isfinite(lengths)][0]}: a feature or weight of its images is not finite")
    sums /= np.where(lengths > 0, lengths, 1)[:, None]
    return Templates(ids, sums.astype(np.float32), lengths == 0)


def _add(sums: Floats, features: NDArray[np.floating[Any]], template: Ints, weights: Floats) -> None:
    order = np.argsort(template, kind="stable")
    own = template[order]
    starts = np.flatnonzero(np.diff(own, prepend=-1))
    weighted = np.multiply(features[order], weights[order, None], dtype=np.float64)
    sums[own[starts]] += np.add.reduceat(weighted, starts, axis=0)


def template_scores(templates: Templates, first: Rows, second: Rows) -> NDArray[np.float32]:
    """Cosine of each pair of rows of `templates`, (P,); -1 where one of the two is empty.

    By matrix products of blocks of the templates that are first with those that are second in any pair, so that a
    template is not fetched anew for each of its pairs; memory is that of a block and of a few numbers a pair.
    """
    left, a = _renumbered(first, len(templates))
    right, b = _renumbered(second, len(templates))
    others = templates.vectors[right].T
    height = max(1, _SCORES // len(right))
    scores = np.empty(len(first), np.float32)
    for top, chosen in _by_block(a, height, len(left)):
        products = templates.vectors[left[top : top + height]] @ others
        scores[chosen] = products[a[chosen] - top, b[chosen]]
    scores[templates.empty[first] | templates.empty[second]] = -1
    return scores


def _renumbered(rows: Rows, count: int) -> tuple[Ints, NDArray[np.int32]]:
    """The distinct rows, rising, and which of them each is. Linear, where sorting millions would not be."""
    used = np.zeros(count, np.bool_)
    used[rows] = True
    return np.flatnonzero(used), (np.cumsum(used, dtype=np.int32) - 1)[rows]


def _by_block(rows: NDArray[np.int32], height: int, count: int) -> Iterator[tuple[int, Ints | slice]]:
    """The first row of each block of `count` rows, and which of `rows` lie in it."""
    if count <= height:
        yield 0, slice(None)
        return
    blocks = rows // height
    small = blocks.astype(np.uint16) if count < 1 << 16 else blocks  # NumPy sorts these in linear time
    order, ends = np.argsort(small, kind="stable"), np.cumsum(np.bincount(blocks))
    for block, (start, stop) in enumerate(pairwise([0, *ends.tolist()])):
        yield block * height, order[start:stop]
