"""Error-versus-discard: what leaving out the images of lowest quality saves. NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceprint.errors import UserError

Floats = NDArray[np.float64]

PARTIAL_LIMITS = (0.2, 0.3)
"""Discarded fractions up to which `partial_area` is stated (Schlett and others, arXiv 2303.13294)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class DiscardCurve:
    """`fnmr` (M,) once the `discarded` (M,) = 0, 1/M, ... (M - 1)/M of M mated pairs are left out.

    Between its points the curve is a step: it holds `fnmr[k]` from k/M to (k + 1)/M.
    """

    discarded: Floats
    fnmr: Floats

    def at(self, fraction: float) -> float:
        """FNMR with this `fraction` left out, in [0, 1): the last whole number of pairs at most that many."""
        if not 0 <= fraction < 1:
            raise UserError(f"a discarded fraction is at least 0 and below 1, got {fraction}")
        return float(self.fnmr[int(np.floor(fraction * len(self.fnmr) + 1e-9))])

    def partial_area(self, limit: float) -> float:
        """Area under the steps from 0 to `limit`, in (0, 1]; divided by `limit`, the mean FNMR."""
        if not 0 < limit <= 1:
            raise UserError(f"the limit of an area is above 0 and at most 1, got {limit}")
        widths = np.clip(limit - self.discarded, 0, 1 / len(self.fnmr))
        return float((widths * self.fnmr).sum())


def pair_quality(quality: ArrayLike, first: ArrayLike, second: ArrayLike) -> Floats:
    """Quality (P,) of pairs: the lower of their two images'. `first`, `second` (P,) are numbers of `quality` (N,)."""
    values = np.asarray(quality, np.float64)
    if not np.isfinite(values).all():
        raise UserError(f"image {int(np.flatnonzero(~np.isfinite(values))[0])} has a quality that is not finite")
    return np.minimum(values[np.asarray(first)], values[np.asarray(second)])


def discard_curve(scores: ArrayLike, quality: ArrayLike, threshold: float) -> DiscardCurve:
    """FNMR of M mated pairs with `scores` (M,) as those of lowest `quality` (M,) are left out one after the other.

    `threshold` is chosen once, on all pairs: chosen anew for what is left, curves could not be compared. A pair is a
    miss where `score <= threshold`. Of pairs of equal quality each order is as likely: the curve is the expected
    value, which falls on a straight line of misses through the block.

    >>> discard_curve([0.1, 0.9, 0.8, 0.9], [1, 2, 3, 3], threshold=0.5).fnmr.tolist()
    [0.25, 0.0, 0.0, 0.0]
    """
    values, ranks = np.asarray(scores, np.float64), np.asarray(quality, np.float64)
    if values.ndim != 1 or values.shape != ranks.shape or not len(values):
        raise UserError(f"mated pairs need a score and a quality each, got shapes {values.shape} and {ranks.shape}")
    _, block, sizes = np.unique(ranks, return_inverse=True, return_counts=True)
    misses = np.bincount(block.reshape(-1), values <= threshold)
    share = np.repeat(misses / sizes, sizes)  # expected misses of each pair, in the order of leaving
    left = np.cumsum(share[::-1])[::-1]
    count = len(values)
    return DiscardCurve(discarded=np.arange(count) / count, fnmr=left / np.arange(count, 0, -1))


def stability(embeddings: ArrayLike) -> Floats:
    """SER-FIQ's quality (N,) of images from embeddings (M, N, D) of M passes with dropout on: 0 to 1, 1 is best.

    2 sigmoid(-2 / M^2 sum_(i<j) d(x_i, x_j)), d the Euclidean distance of unit vectors (Terhoerst and others, "SER-FIQ:
    Unsupervised Estimation of Face Image Quality", CVPR 2020). Raises `UserError` for fewer than two passes.
    """
    vectors = np.asarray(embeddings, np.float64)
    if vectors.ndim != 3 or len(vectors) < 2:
        raise UserError(f"stability needs embeddings (M, N, D) of at least 2 passes, got shape {vectors.shape}")
    passes = len(vectors)
    total = np.zeros(vectors.shape[1])
    for number in range(1, passes):
        total += np.linalg.norm(vectors[number] - vectors[:number], axis=2).sum(axis=0)
    return 2 / (1 + np.exp(2 / passes**2 * total))
