"""How sure a figure is: intervals and differences by a bootstrap over people, and McNemar's test. NumPy alone.

The bootstrap resamples people, not pairs: pairs that share a person are not independent, and an interval from
resampled pairs would be too narrow. Of I people, I are drawn with replacement; person i comes m_i times. A same pair of
person i then weighs m_i, a different pair of i and j weighs m_i m_j (Davezies, D'Haultfoeuille and Guyonvarch,
"Empirical process results for exchangeable arrays", 2021; Owen, "The pigeonhole bootstrap", 2007; compared with others
for face verification by Fogliato, Patil and Perona, arXiv 2306.01198). A search for person i among people enrolled, who
stay as they are, weighs m_i: what a draw changes is who is looked for (Bolle, Ratha and Pankanti, "Error analysis of
pattern recognition systems - the subsets bootstrap", 2004). Intervals are those between quantiles of the draws. A
figure without any error gets an interval of no width, which says nothing: then the count of pairs is what limits it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceprint.errors import UserError
from faceprint.evaluation.metrics import DISTANCE_GRID, verification_accuracy

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

DRAWS = 1000
LEVEL = 0.95
MAX_DRAWS = 100_000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """From `low` to `high`, at the level asked for; `undefined` draws had no same or no different pair, or search.

    The threshold of `unreached` draws lies below the scores that were kept: their rate, at most 1, counts as 1.
    """

    low: float
    high: float
    undefined: int
    unreached: int = 0


@dataclass(frozen=True)
class PersonDraws:
    """`draws` times how often each of `people` comes, (people,) int64: so many are drawn of them, with replacement.

    Those of one `seed` are the same each time. Raises `UserError` for fewer than two people, and for no draws or more
    than `MAX_DRAWS`.
    """

    people: int
    draws: int = DRAWS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.people < 2 or not 1 <= self.draws <= MAX_DRAWS:
            needed = f"at least 2 of them and 1 to {MAX_DRAWS:,} draws"
            raise UserError(f"a bootstrap over people needs {needed}; got {self.people:,} and {self.draws:,}")

    def __iter__(self) -> Iterator[Ints]:
        rng = np.random.default_rng(self.seed)
        for _ in range(self.draws):
            yield np.bincount(rng.integers(self.people, size=self.people), minlength=self.people)

    def measured(self, statistic: Callable[[Ints], Floats]) -> Floats:
        """The `statistic` (S,) of every draw, (draws, S)."""
        return np.stack([statistic(times) for times in self])

    def said(self, rule: str) -> dict[str, Any]:
        """How the intervals were made, for JSON; `rule` says who is who, and what is not drawn."""
        return {
            "level": LEVEL,
            "draws": self.draws,
            "seed": self.seed,
            "people": self.people,
            "people_rule": rule,
        }


@dataclass(frozen=True, kw_only=True)
class Difference:
    """`value` of the second less the first, its interval, and the two-sided bootstrap `p_value` that it is 0."""

    value: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Pairs that only the one or only the other decides rightly, and the two-sided exact `p_value`."""

    only_first: int
    only_second: int
    p_value: float


class PairStatistics:
    """The figures of a verification set as functions of the pairs' weights: what each draw is measured by.

    With whole weights they are those of `faceprint.evaluation.metrics` on pairs repeated that often: accuracy on
    the set's folds by the published grid (one fold: the best threshold's), TAR at each of `fars`, EER and AUC.
    """

    def __init__(self, scores: ArrayLike, same: ArrayLike, fold: ArrayLike, fars: Sequence[str] = ()) -> None:
        values, self._same = np.asarray(scores, np.float64), np.asarray(same, np.bool_)
        names, numbers = np.unique(np.asarray(fold), return_inverse=True)
        self._fold, self._num_folds = numbers.reshape(-1), len(names)
        self._order = np.argsort(-values, kind="stable")
        self._ends = np.append(np.flatnonzero(np.diff(values[self._order])), len(values) - 1)
        self._fars = [float(far) for far in fars]
        bins = len(DISTANCE_GRID) + 1
        first = np.searchsorted(DISTANCE_GRID, 2 - 2 * np.clip(values, -1, 1), side="right")
        self._cell = (self._fold * 2 + self._same) * bins + first
        self._shape = (self._num_folds, 2, bins)
        self.names = ["accuracy", *(f"tar_at_far_{far}" for far in fars), "eer", "auc"]

    def __call__(self, weights: ArrayLike) -> Floats:
        """The figures (S,), in the order of `names`, for weights (P,) of at least 0; NaN where one kind has none."""
        weight = np.asarray(weights, np.float64)
        in_order, same = weight[self._order], self._same[self._order]
        accepted_same = self._accepted(in_order * same)
        accepted_different = self._accepted(in_order * ~same)
        if not (accepted_same[-1] and accepted_different[-1]):
            return np.full(len(self.names), np.nan)
        tars = [_tar(accepted_same, accepted_different, far) for far in self._fars]
        accuracy = self._accuracy(weight) if self._num_folds > 1 else _best(accepted_same, accepted_different)
        return np.array(
            [accuracy, *tars, _eer(accepted_same, accepted_different), _auc(accepted_same, accepted_different)]
        )

    def _accepted(self, weights: Floats) -> Floats:
        """Weight accepted above each distinct score: none, then more and more, (T,)."""
        return np.concatenate([[0.0], np.cumsum(weights)[self._ends]])

    def _accuracy(self, weight: Floats) -> float:
        counts = np.bincount(self._cell, weight, minlength=math.prod(self._shape)).reshape(self._shape)
        accepted = counts.cumsum(axis=2)
        correct = accepted[:, 0, -1:] - accepted[:, 0, :-1] + accepted[:, 1, :-1]
        best = np.argmax(correct.sum(axis=0) - correct, axis=1)
        size = accepted[:, :, -1].sum(axis=1)
        there = size > 0
        return float(np.mean(correct[np.arange(self._num_folds), best][there] / size[there]))


def bootstrap_weights(first: Ints, second: Ints, same: Bools, draws: int, seed: int = 0) -> Iterator[Ints]:
    """`draws` times the weights (P,) of pairs whose people are numbered `first` and `second` (P,), from 0 on.

    Raises `UserError` as `PersonDraws` does.
    """
    for times in PersonDraws(int(max(first.max(), second.max())) + 1, draws, seed):
        yield times[first] * np.where(same, 1, times[second])


def intervals(
    statistics: PairStatistics,
    first: Ints,
    second: Ints,
    same: Bools,
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Interval]:
    """The interval of each figure of `statistics`; the pairs' people are `first` and `second` (P,), see above."""
    drawn = np.stack([statistics(weights) for weights in bootstrap_weights(first, second, same, draws, seed)])
    return {name: quantiles(drawn[:, place], level) for place, name in enumerate(statistics.names)}


def drawn_intervals(
    draws: PersonDraws, names: Sequence[str], statistic: Callable[[Ints], Floats]
) -> dict[str, dict[str, Any]]:
    """The intervals, for JSON, of the figures `names` (S,) that `statistic` (S,) makes of how often people come.

    Without those that the people as they are don't have (NaN), or no draw has.
    """
    whole, drawn = statistic(np.ones(draws.people, np.int64)), draws.measured(statistic)
    known = [np.isfinite(value) and not np.isnan(column).all() for value, column in zip(whole, drawn.T, strict=True)]
    return {name: asdict(quantiles(drawn[:, place])) for place, name in enumerate(names) if known[place]}


def quantiles(drawn: Floats, level: float = LEVEL) -> Interval:
    """The middle `level` of `drawn` (B,): NaN is undefined, inf not reached. Raises `UserError` where all are NaN."""
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        raise UserError("no draw of people has pairs of both kinds; there are too few people for an interval")
    unreached = np.isposinf(known)
    low, high = np.quantile(np.where(unreached, 1, known), [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        low=float(low), high=float(high), undefined=len(drawn) - len(known), unreached=int(np.count_nonzero(unreached))
    )


def compare(
    a: PairStatistics,
    b: PairStatistics,
    first: Ints,
    second: Ints,
    same: Bools,
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Difference]:
    """What each figure of `b` is above that of `a` on the same pairs, each draw of people weighing both alike.

    p = 2 min(1 + draws at most 0, 1 + draws at least 0) / (1 + draws), at most 1.
    """
    ones = np.ones(len(same))
    weights = bootstrap_weights(first, second, same, draws, seed)
    drawn = np.stack([b(weight) - a(weight) for weight in weights])
    values = b(ones) - a(ones)
    return {name: _difference(float(values[place]), drawn[:, place], level) for place, name in enumerate(a.names)}


def _difference(value: float, drawn: Floats, level: float) -> Difference:
    found = quantiles(drawn, level)
    finite = drawn[np.isfinite(drawn)]
    fewer = min(np.count_nonzero(finite <= 0), np.count_nonzero(finite >= 0))
    p_value = min(1.0, 2 * (1 + fewer) / (1 + len(finite)))
    return Difference(value=value, low=found.low, high=found.high, p_value=float(p_value))


def decided_rightly(scores: ArrayLike, same: ArrayLike, fold: ArrayLike, threshold: float) -> Bools:
    """(P,) whether each pair is decided rightly at its fold's threshold; at `threshold` where there is one fold."""
    values, labels, folds = np.asarray(scores, np.float64), np.asarray(same, np.bool_), np.asarray(fold)
    names, numbers = np.unique(folds, return_inverse=True)
    thresholds = np.full(1, threshold)
    if len(names) > 1:
        thresholds = verification_accuracy(values, labels, folds).thresholds
    return (values > thresholds[numbers.reshape(-1)]) == labels


def mcnemar(first_right: ArrayLike, second_right: ArrayLike) -> McNemar:
    """McNemar's test, exact: of the pairs that one of two decides rightly, is either's half? (P,) bool each.

    It takes pairs for independent, which those that share a person are not: read it beside `compare`.

    >>> mcnemar([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0])
    McNemar(only_first=5, only_second=0, p_value=0.0625)
    """
    a, b = np.asarray(first_right, np.bool_), np.asarray(second_right, np.bool_)
    if a.shape != b.shape:
        raise UserError(f"both must judge the same pairs, got {a.shape} and {b.shape}")
    only_first, only_second = int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a))
    return McNemar(only_first=only_first, only_second=only_second, p_value=sign_test(only_first, only_second))


def sign_test(wins: int, losses: int) -> float:
    """Two-sided exact p-value of so many wins and losses where each is as likely; 1 where there are none.

    >>> sign_test(1, 7)
    0.0703125
    """
    total = wins + losses
    logs = [
        math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) - total * math.log(2)
        for k in range(min(wins, losses) + 1)
    ]
    return min(1.0, round(2 * math.fsum(map(math.exp, logs)), 12))


def _tar(accepted_same: Floats, accepted_different: Floats, far: float) -> float:
    allowed = np.floor(far * accepted_different[-1] + 1e-9)
    place = int(np.searchsorted(accepted_different, allowed, side="right")) - 1
    return float(accepted_same[place] / accepted_same[-1])


def _best(accepted_same: Floats, accepted_different: Floats) -> float:
    total = accepted_same[-1] + accepted_different[-1]
    return float(((accepted_same - accepted_different).max() + accepted_different[-1]) / total)


def _eer(accepted_same: Floats, accepted_different: Floats) -> float:
    false_accept = accepted_different / accepted_different[-1]
    gap = false_accept - (1 - accepted_same / accepted_same[-1])
    after = int(np.searchsorted(gap, 0.0))
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(false_accept[after - 1] + share * (false_accept[after] - false_accept[after - 1]))


def _auc(accepted_same: Floats, accepted_different: Floats) -> float:
    twice = np.sum(np.diff(accepted_different) * (accepted_same[1:] + accepted_same[:-1]))
    return float(twice / (2 * accepted_same[-1] * accepted_different[-1]))
