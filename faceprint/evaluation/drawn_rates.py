"""Rates of searches, and of all pairs of many images, as functions of a draw of people. NumPy alone.

`intervals` says what is drawn and what then weighs how much. Nothing is compared again: scores are sorted once, and
counted once by person.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceprint.evaluation.intervals import Floats, Ints


class DrawnRate:
    """The share of `positives` (P,) that score above a threshold which the negatives (N,) set anew in each draw.

    `owner` (P,) and `first` (N,) are the numbers of their people; with `second` (N,) a negative is a pair of two people
    and weighs the product of their times. Scores nearer than `tie` are equal; a positive of -inf is never accepted.
    Where people come a whole number of times, the figure is that of `metrics.tar_at_far` on scores repeated so often.
    Negatives that are not `complete` are the highest of them.
    """

    def __init__(
        self,
        positives: ArrayLike,
        owner: Ints,
        negatives: ArrayLike,
        first: Ints,
        second: Ints | None = None,
        *,
        tie: float = 0.0,
        complete: bool = True,
    ) -> None:
        wanted, others = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
        order, falling = np.argsort(-wanted), np.argsort(-others)
        self._owner, self._first = owner[order], first[falling]
        self._second = None if second is None else second[falling]
        thresholds = np.append(others[falling], -np.inf)
        self._above = np.searchsorted(-wanted[order], -(thresholds + tie), side="left")
        self._complete = complete

    def __call__(self, times: Ints, allowed: Floats) -> Floats:
        """The rates (A,) where negatives that weigh `allowed` (A,) at most may be above the threshold.

        NaN where `allowed` is NaN or below 0, or no positive is drawn; inf where the threshold is below all negatives,
        and those are not complete.
        """
        weights = times[self._first] if self._second is None else times[self._first] * times[self._second]
        places = np.searchsorted(np.cumsum(weights), allowed, side="right")
        accepted = np.append(0, np.cumsum(times[self._owner]))
        rates = _ratio(accepted[self._above[places]], np.where(allowed >= 0, accepted[-1], 0))
        below = (places == len(weights)) & np.isfinite(rates) & (not self._complete)
        return np.where(below, np.inf, rates)


class HeldRates:
    """Rates, by name, of what was found at thresholds that no draw changes: `rates` are (found (Q,), of (Q,)) counts.

    `owner` (Q,) are the numbers of the people of these searches or pairs, below `people`.
    """

    def __init__(self, owner: Ints, people: int, rates: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> None:
        self.names = list(rates)
        self._found, self._of = (
            np.array([np.bincount(owner, np.asarray(each[kind], np.float64), people) for each in rates.values()])
            for kind in (0, 1)
        )

    def __call__(self, times: Ints) -> Floats:
        """The rates (R,); NaN where nothing of the kind is drawn."""
        return _ratio(self._found @ times, self._of @ times) if self.names else np.empty(0)


def kept_for_draws(accepts: int, negatives: int) -> int:
    """How many of the largest scores of `negatives` to keep where `accepts` may be above the threshold of the whole.

    Draws allow other numbers, and leave people out: these are four times as many, and all where there are few.
    """
    return min(negatives, 4 * (accepts + 1) + 1024)


def allowed(fractions: ArrayLike, total: int) -> Floats:
    """K = floor(fraction total + 1e-9) of each of `fractions` (A,), the rule of `metrics`; NaN where `total` is 0."""
    return np.floor(np.asarray(fractions, np.float64) * total + 1e-9) if total else np.full(np.shape(fractions), np.nan)


def _ratio(found: NDArray[Any], of: NDArray[Any]) -> Floats:
    return np.divide(found, of, out=np.full(np.shape(found), np.nan), where=of > 0)
