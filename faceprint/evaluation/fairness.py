"""Error rates of groups of people at one threshold, and summaries of how they differ. NumPy alone.

One global threshold, since that is what a deployed system has: thresholds chosen group by group hide the differences.
A pair is accepted where `score > threshold`, as in `faceprint.evaluation.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceprint.errors import UserError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MAX_GROUPS, MAX_GROUP_NAME = 500, 200
ALPHA = 0.5
"""Weight of false matches in `fairness_discrepancy_rate` and `garbe`, and exponent of both rates in `inequity_rate`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupRates:
    """Of G `groups`: `fnmr` (G,), from `mated` pairs (G,) with `false_non_matches`; `fmr` (G, G), from `non_mated`.

    `fmr[i, j]` is the rate of pairs between a person of group i and one of j, symmetric; the diagonal is the rate
    within a group. A rate with no pair behind it is NaN.
    """

    groups: list[str]
    fnmr: Floats
    fmr: Floats
    false_non_matches: Ints
    mated: Ints
    false_matches: Ints
    non_mated: Ints


class WithinGroups:
    """The decisions on pairs within groups, so that their rates can be had again with other weights.

    Pairs as those of `group_rates`, whose order of groups it is.
    """

    def __init__(
        self, scores: ArrayLike, same: ArrayLike, group_a: Sequence[str], group_b: Sequence[str], threshold: float
    ) -> None:
        labels = np.asarray(same, np.bool_)
        groups, a, b = _numbered(labels, group_a, group_b)
        accepted = np.asarray(scores, np.float64) > threshold
        self.groups = groups
        self.pairs = np.flatnonzero(a == b)
        self._kind = (4 * a + 2 * labels + accepted)[self.pairs]

    def rates(self, weights: Ints) -> tuple[Floats, Floats]:
        """FMR (G,) and FNMR (G,) where each of `pairs` counts as often as `weights` says; NaN without such a pair."""
        counts = np.bincount(self._kind, weights, minlength=4 * len(self.groups)).reshape(-1, 2, 2)
        trials = counts.sum(axis=2)
        return _rate(counts[:, 0, 1], trials[:, 0]), _rate(counts[:, 1, 0], trials[:, 1])


def group_rates(
    scores: ArrayLike, same: ArrayLike, group_a: Sequence[str], group_b: Sequence[str], threshold: float
) -> GroupRates:
    """Rates of each group at `threshold`; `group_a` and `group_b` (P,) name the groups of a pair's two people.

    Raises `UserError` where a same pair is of two groups, since a person has one, for more than `MAX_GROUPS`, and for a
    name of more than `MAX_GROUP_NAME` letters.
    """
    values, labels = np.asarray(scores, np.float64), np.asarray(same, np.bool_)
    groups, a, b = _numbered(labels, group_a, group_b)
    accepted = values > threshold
    shape = (len(groups), len(groups))
    mated, missed = (np.bincount(a[kind], minlength=len(groups)) for kind in (labels, labels & ~accepted))
    tried, matched = (_symmetric(a[kind], b[kind], shape) for kind in (~labels, ~labels & accepted))
    return GroupRates(
        groups=groups,
        fnmr=_rate(missed, mated),
        fmr=_rate(matched, tried),
        false_non_matches=missed,
        mated=mated,
        false_matches=matched,
        non_mated=tried,
    )


def _numbered(same: Bools, group_a: Sequence[str], group_b: Sequence[str]) -> tuple[list[str], Ints, Ints]:
    """The groups in order of their names, and the numbers (P,) of those of each pair. Raises as `group_rates`."""
    groups, numbers = np.unique(np.array([*group_a, *group_b]), return_inverse=True)
    _check_groups(groups.tolist())
    a, b = numbers.reshape(2, -1)
    if (mixed := same & (a != b)).any():
        pair = int(np.flatnonzero(mixed)[0])
        raise UserError(f"same pair {pair} is of two groups, {group_a[pair]} and {group_b[pair]}; a person has one")
    return groups.tolist(), a, b


def _check_groups(groups: list[str]) -> None:
    if len(groups) > MAX_GROUPS:
        raise UserError(f"{len(groups):,} groups; at most {MAX_GROUPS} are compared. Are the names those of people?")
    longest = max(groups, key=len, default="")
    if len(longest) > MAX_GROUP_NAME:
        raise UserError(f"the name of group {longest[:40]}… has {len(longest):,} letters; at most {MAX_GROUP_NAME}")


def summaries(fmr: Floats, fnmr: Floats) -> dict[str, float | None]:
    """`SUMMARIES` of the rates (G,) of groups, by name, of those with pairs of both kinds; None: a rate is 0.

    Raises `UserError` where fewer than two groups have both rates.
    """
    there = np.isfinite(fmr) & np.isfinite(fnmr)
    return {name: summary(fmr[there], fnmr[there]) for name, summary in SUMMARIES.items()}


def fairness_discrepancy_rate(fmr: ArrayLike, fnmr: ArrayLike, alpha: float = ALPHA) -> float:
    """FDR = 1 - (alpha max|FMR_i - FMR_j| + (1 - alpha) max|FNMR_i - FNMR_j|); 1: no difference.

    Pereira and Marcel, arXiv 2011.02395. Errors far below 1 differ little in absolute terms: FDR is near 1 then.

    >>> round(fairness_discrepancy_rate([0.001, 0.003], [0.02, 0.06]), 6)
    0.979
    """
    return 1 - (alpha * float(np.ptp(_rates(fmr))) + (1 - alpha) * float(np.ptp(_rates(fnmr))))


def inequity_rate(fmr: ArrayLike, fnmr: ArrayLike, alpha: float = ALPHA) -> float | None:
    """IR = (max FMR / min FMR)^alpha (max FNMR / min FNMR)^(1 - alpha); 1: no difference, None: a rate is 0.

    NIST's, in the form that Howard and others give it (arXiv 2203.05051). The paper was not at hand: the formula is as
    a public re-implementation that cites it has it, exponents alpha and 1 - alpha included.

    >>> round(inequity_rate([0.001, 0.004], [0.02, 0.02]), 6)
    2.0
    """
    matches, misses = _rates(fmr), _rates(fnmr)
    if not (matches.min() and misses.min()):
        return None
    return float((matches.max() / matches.min()) ** alpha * (misses.max() / misses.min()) ** (1 - alpha))


def garbe(fmr: ArrayLike, fnmr: ArrayLike, alpha: float = ALPHA) -> float:
    """GARBE = alpha Gini(FMR) + (1 - alpha) Gini(FNMR), 0: no difference, 1: all errors in one group.

    Gini(x) = n / (n - 1) sum_ij |x_i - x_j| / (2 n^2 mean x), 0 where all x are 0. Howard and others, arXiv 2203.05051;
    compared, as `inequity_rate`, with a public re-implementation that cites the paper and not with the paper itself.

    >>> garbe([0.0, 0.0, 0.3], [0.1, 0.1, 0.1])
    0.5
    """
    return alpha * _gini(_rates(fmr)) + (1 - alpha) * _gini(_rates(fnmr))


SUMMARIES: dict[str, Callable[[Floats, Floats], float | None]] = {
    "fairness_discrepancy_rate": fairness_discrepancy_rate,
    "inequity_rate": inequity_rate,
    "garbe": garbe,
}


def skewed_error_ratio(accuracies: ArrayLike) -> float | None:
    """SER = (1 - min accuracy) / (1 - max accuracy), as with RFW; None where the best group has no error.

    >>> round(skewed_error_ratio([0.99, 0.98]), 6)
    2.0
    """
    errors = 1 - np.asarray(accuracies, np.float64)
    return float(errors.max() / errors.min()) if errors.min() > 0 else None


def _gini(rates: Floats) -> float:
    count, mean = len(rates), float(rates.mean())
    if not mean:
        return 0.0
    differences = float(np.abs(rates[:, None] - rates[None]).sum())
    return count / (count - 1) * differences / (2 * count**2 * mean)


def _rates(rates: ArrayLike) -> Floats:
    """The rates (G,), of at least two groups. Raises `UserError` for fewer, and for a rate that is none."""
    values = np.asarray(rates, np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise UserError(f"a comparison of groups needs the rates of at least two, got shape {values.shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise UserError(f"rates must be 0 to 1, got {values.tolist()}; has every group pairs of both kinds?")
    return values


def _symmetric(a: Ints, b: Ints, shape: tuple[int, int]) -> Ints:
    """(G, G): how many pairs are between i and j, whichever comes first."""
    counts = np.bincount(a * shape[1] + b, minlength=shape[0] * shape[1]).reshape(shape)
    return counts + counts.T - np.diag(counts.diagonal())


def _rate(errors: Ints | Floats, trials: Ints | Floats) -> Floats:
    return np.divide(errors, trials, out=np.full(trials.shape, np.nan), where=trials > 0)
