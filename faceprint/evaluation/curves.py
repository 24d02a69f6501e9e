"""Curves of results as plain values for JSON, thinned to what can be seen. NumPy alone.

Each is a dictionary with `kind`, `x` and `y` as `faceprint-result/1` has them, and `set`, what is said behind the title
of the test set, such as ", gallery G1".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceprint.evaluation import metrics

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_POINTS = 4000
_ROC_POINTS = 100


def plain_curve(kind: str, x: ArrayLike, y: ArrayLike, of: str = "") -> dict[str, Any]:
    """`x` rises, and `y` holds from each to the next: thinned by `thin`."""
    kept_x, kept_y = thin(np.asarray(x, np.float64), np.asarray(y, np.float64))
    return {"set": of, "kind": kind, "x": kept_x.tolist(), "y": kept_y.tolist()}


def plain_roc(scores: ArrayLike, same: ArrayLike, of: str = "") -> dict[str, Any]:
    """The ROC of scored pairs, at every distinct score."""
    curve = metrics.roc(scores, same)
    return plain_curve("roc", curve.far, curve.tar, of)


def sampled_roc(scores: ArrayLike, same: ArrayLike) -> dict[str, Any]:
    """The ROC of millions of pairs: exact corners, those of `_ROC_POINTS` counts of false accepts, evenly in log."""
    different = int(np.count_nonzero(~np.asarray(same, np.bool_)))
    points = metrics.tar_at_fars(scores, same, (accept_counts(different) / different).tolist())
    return plain_curve("roc", [point.false_accepts / different for point in points], [point.tar for point in points])


def accept_counts(most: int) -> Ints:
    """0, 1 and so on to `most`, about `_ROC_POINTS` of them, evenly in log."""
    counts = np.geomspace(1, max(1, most), _ROC_POINTS).round().astype(np.int64)
    return np.unique(np.minimum([0, *counts], most))


def plain_cmc(ranks: Ints, last: int, of: str = "") -> dict[str, Any]:
    """The CMC of searches whose mates have `ranks` (S,), from 1; up to rank `last`."""
    found, counts = np.unique(ranks, return_counts=True)
    x, y = np.append(found, last), np.append(np.cumsum(counts), len(ranks)) / len(ranks)
    return plain_curve("cmc", *((x, y) if found[0] == 1 else (np.append(1, x), np.append(0.0, y))), of)


def plain_open_set(scores: NDArray[np.floating[Any]], mates: NDArray[np.bool_], ranks: Ints, of: str = "") -> Any:
    """FPIR against FNIR(N, R = 1, T) at every T: `scores` and `mates` (Q, G), `ranks` (Q,) of the mates, 0 without one.

    None in a closed set.
    """
    if (ranks > 0).all():
        return None
    own, highest = open_set_scores(scores, mates, ranks)
    seen = own[np.isfinite(own)]
    never = float(min(seen.min(initial=np.inf), highest.min())) - 1  # a mate behind another is not found, whatever T
    found = np.maximum(own, never)
    curve = metrics.roc(np.append(found, highest), np.arange(len(scores)) < len(found))
    real = (curve.thresholds >= never) | (found.min() > never)
    return plain_curve("identification_det", curve.far[real], 1 - curve.tar[real], of)


def open_set_scores(
    scores: NDArray[np.floating[Any]], mates: NDArray[np.bool_], ranks: Ints
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """The mate's score of each search that has one (M,), -inf where it is not first; the highest of each other (S,)."""
    mated = ranks > 0
    own = np.where(mates[mated], scores[mated], -np.inf).max(axis=1)
    return np.where(ranks[mated] == 1, own, -np.inf), scores[~mated].max(axis=1)


def thin(x: Floats, y: Floats, max_points: int = MAX_POINTS) -> tuple[Floats, Floats]:
    """The corners of a rising step curve: points on the straight of a step are left out, and change nothing.

    Where more than `max_points` are left, only the first and the last corner in each of `max_points` / 2 equal bins of
    log x are kept: at a low x, where corners are few, none is lost.
    """
    moved = np.concatenate([[True], (np.diff(x) != 0) | (np.diff(y) != 0)])
    x, y = x[moved], y[moved]
    if len(x) < 3:
        return x, y
    inner = ((x[1:-1] == x[:-2]) & (x[1:-1] == x[2:])) | ((y[1:-1] == y[:-2]) & (y[1:-1] == y[2:]))
    keep = np.flatnonzero(np.concatenate([[True], ~inner, [True]]))
    if len(keep) > max_points:
        keep = keep[_first_and_last(x[keep], max_points)]
    return x[keep], y[keep]


def _first_and_last(x: Floats, max_points: int) -> NDArray[np.int64]:
    logs = np.log10(np.maximum(x, x[x > 0].min() / 10))
    bins = np.searchsorted(np.linspace(logs[0], logs[-1], max_points // 2 - 1), logs)
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    return np.unique(np.concatenate([starts, starts[1:] - 1, [len(x) - 1]]))
