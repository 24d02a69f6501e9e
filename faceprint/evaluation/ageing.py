"""How a template ages: misses of same pairs by the years between their images, at one threshold. NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceprint.errors import UserError
from faceprint.evaluation.intervals import MAX_DRAWS

Ints = NDArray[np.int64]

EDGES = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, np.inf)
"""Bins of elapsed years: from one edge, which belongs to it, to the next, which does not."""
MAX_BINS = 200
BAND = (0.01, 0.99)
"""Quantiles of the bootstrap that make the band, as in NIST's reports on ageing."""


@dataclass(frozen=True, kw_only=True)
class AgeBin:
    """Same pairs taken `from_years` to below `to_years` apart: misses, and the band of FNMR over draws of subjects.

    `fnmr`, `low` and `high` are None where the bin has no pair; `subjects` counts its people.
    """

    from_years: float
    to_years: float
    mated: int
    subjects: int
    false_non_matches: int
    fnmr: float | None
    low: float | None
    high: float | None


def fnmr_by_years(
    scores: ArrayLike,
    years: ArrayLike,
    subjects: ArrayLike,
    threshold: float,
    *,
    edges: Sequence[float] = EDGES,
    draws: int = 1000,
    seed: int = 0,
) -> list[AgeBin]:
    """The bins of mated pairs: `scores` (M,), `years` (M,) between the images, `subjects` (M,) numbers of the people.

    One `threshold` for all bins, strictly above which a pair is accepted. A draw takes as many subjects as there are,
    with replacement, and all their pairs in all bins. Raises `UserError` for years below the first edge or not
    finite, for edges that don't rise or are too many, and for no draws or too many.
    """
    if not 0 < draws <= MAX_DRAWS:
        raise UserError(f"draws is {draws}; allowed: 1 to {MAX_DRAWS:,}")
    values, elapsed = np.asarray(scores, np.float64), np.asarray(years, np.float64)
    limits = np.asarray(edges, np.float64)
    if not 2 <= len(limits) <= MAX_BINS + 1 or not (np.diff(limits) > 0).all() or not np.isfinite(limits[0]):
        raise UserError(
            f"edges of years must rise from a finite one, to {MAX_BINS} bins at most; got {list(edges)[:9]}"
        )
    if not np.isfinite(elapsed).all() or (elapsed < limits[0]).any() or (elapsed >= limits[-1]).any():
        raise UserError(f"years must be {limits[0]:g} to below {limits[-1]:g}, got {elapsed.min()} to {elapsed.max()}")
    people = np.unique(np.asarray(subjects), return_inverse=True)[1].reshape(-1)
    place = np.searchsorted(limits, elapsed, side="right") - 1
    shape = (int(people.max()) + 1, len(limits) - 1)
    cell = people * shape[1] + place
    mated, missed = (
        np.bincount(chosen, minlength=shape[0] * shape[1]).reshape(shape)
        for chosen in (cell, cell[values <= threshold])
    )
    bands = _bands(mated, missed, draws, seed)
    return [_bin(limits[at : at + 2], mated[:, at], missed[:, at], bands[at]) for at in range(shape[1])]


def _bands(mated: Ints, missed: Ints, draws: int, seed: int) -> list[tuple[float, float] | None]:
    rng, count = np.random.default_rng(seed), len(mated)
    rates = np.full((draws, mated.shape[1]), np.nan)
    for draw in range(draws):
        times = np.bincount(rng.integers(count, size=count), minlength=count)
        trials = times @ mated
        np.divide(times @ missed, trials, out=rates[draw], where=trials > 0)
    return [_band(column[np.isfinite(column)]) for column in rates.T]


def _band(rates: NDArray[np.float64]) -> tuple[float, float] | None:
    if not len(rates):
        return None
    low, high = np.quantile(rates, BAND)
    return float(low), float(high)


def _bin(limits: NDArray[np.float64], mated: Ints, missed: Ints, band: tuple[float, float] | None) -> AgeBin:
    total, errors = int(mated.sum()), int(missed.sum())
    return AgeBin(
        from_years=float(limits[0]),
        to_years=float(limits[1]),
        mated=total,
        subjects=int(np.count_nonzero(mated)),
        false_non_matches=errors,
        fnmr=errors / total if total else None,
        low=band[0] if band and total else None,
        high=band[1] if band and total else None,
    )
