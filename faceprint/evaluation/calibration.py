"""A threshold for a false-accept rate on a user's own pairs: with an interval, and only where the pairs support it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprint.errors import UserError
from faceprint.evaluation import metrics

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

RULE_OF_3, RULE_OF_30 = 3, 30
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """`threshold` is the lowest whose FAR on these pairs does not exceed `far`; accepted is a score above it.

    `threshold_interval`, `far_interval` and `tar_interval` are the central 95 % of `replicates` bootstrap samples of
    `num_identities` people: of the threshold chosen anew, and of FAR and TAR at the `threshold`. `far_measured` rests
    on `false_accepts`. `support` says which rule the number of pairs satisfies.
    """

    far: float
    threshold: float
    threshold_interval: tuple[float, float]
    far_measured: float
    far_interval: tuple[float, float]
    false_accepts: int
    tar: float
    tar_interval: tuple[float, float]
    num_same: int
    num_different: int
    num_identities: int
    identities: str
    replicates: int
    support: str


def check_support(far: float, num_different: int) -> str:
    """Which rule `num_different` comparisons of different people satisfy for a rate `far`. Raises `UserError` for none.

    - Rule of 3: with no false accept in N independent comparisons the rate is below 3 / N with 95 % confidence
      (ISO/IEC 19795-1; Jovanovic and Levy, "A look at the rule of three", The American Statistician 51, 1997). With
      fewer than 3 / FAR even a perfect result would not show the FAR: refused.
    - Rule of 30: with 30 errors the true rate is within 30 % of the measured one with 90 % confidence (Doddington et
      al., "The NIST speaker recognition evaluation", Speech Communication 31, 2000): 30 / FAR comparisons.

    Comparisons of the same people are not independent, so both rules are the least that is needed.
    """
    if not 0 < far < 1:
        raise UserError(f"far is {far}; give a fraction above 0 and below 1, such as 1e-3")
    if far * num_different < RULE_OF_3 * (1 - 1e-9):
        lowest = RULE_OF_3 / num_different if num_different else 1.0
        raise UserError(
            f"{num_different:,} pairs of different people can't support FAR {far:g}: the rule of 3 needs"
            f" {math.ceil(RULE_OF_3 / far - 1e-6):,}, the rule of 30 {math.ceil(RULE_OF_30 / far - 1e-6):,}. Add pairs"
            " (`faceprint data pairs make`), or "
            + (f"ask for {lowest:.2g} or more" if lowest < 1 else "take another set")
        )
    if far * num_different < RULE_OF_30 * (1 - 1e-9):
        return f"rule of 3 only; within 30 % of {far:g} needs {math.ceil(RULE_OF_30 / far - 1e-6):,} pairs (rule of 30)"
    return "rule of 30"


def calibrate(
    scores: Floats,
    same: Bools,
    people: tuple[Ints, Ints],
    far: float,
    *,
    identities: str,
    replicates: int = 1000,
    seed: int = 0,
) -> Calibration:
    """The threshold for `far` on pairs with `scores` (P,); `people` are the two persons' numbers of each pair, from 0.

    Bootstrap over identities: of the I people I are drawn with replacement; a pair of two people counts as often as the
    product of their draws, a pair of one person as often as that person's. Pairs of a person thus come and go together,
    which resampling pairs would not let them (Bolle, Ratha and Pankanti, "Error analysis of pattern recognition
    systems - the subsets bootstrap", CVIU 93, 2004). `identities` says how people were told apart. Raises `UserError`
    as `check_support` and `metrics.tar_at_far`.
    """
    support = check_support(far, int(np.count_nonzero(~same)))
    point = metrics.tar_at_far(scores, same, far)
    if not math.isfinite(point.threshold):
        raise UserError(f"far {far:g} would accept every pair; ask for less")
    drawn = _bootstrap(scores, same, people, far, point.threshold, replicates, np.random.default_rng(seed))
    thresholds, fars, tars = (_interval(values) for values in drawn.T)
    return Calibration(
        far=far,
        threshold=point.threshold,
        threshold_interval=thresholds,
        far_measured=point.false_accepts / int(np.count_nonzero(~same)),
        far_interval=fars,
        false_accepts=point.false_accepts,
        tar=point.tar,
        tar_interval=tars,
        num_same=int(np.count_nonzero(same)),
        num_different=int(np.count_nonzero(~same)),
        num_identities=int(np.max(people)) + 1,
        identities=identities,
        replicates=replicates,
        support=support,
    )


def _bootstrap(
    scores: Floats, same: Bools, people: tuple[Ints, Ints], far: float, threshold: float, replicates: int, rng: Any
) -> Floats:
    """Threshold, and FAR and TAR at `threshold`, of each sample, (R, 3); NaN where a sample has no pair of a kind."""
    order = np.argsort(-scores[~same], kind="stable")
    ordered = scores[~same][order]
    first, second = (who[~same][order] for who in people)
    owner, accepted = people[0][same], scores[same] > threshold
    places = np.searchsorted(-ordered, -threshold, side="left")  # the first of them that is not above it
    found = np.full((replicates, 3), np.nan)
    num_people = int(np.max(people)) + 1
    for replicate in range(replicates):
        drawn = np.bincount(rng.integers(0, num_people, num_people), minlength=num_people)
        above = np.concatenate([[0], np.cumsum(drawn[first] * drawn[second])])
        weights = drawn[owner]
        if above[-1] and weights.any():
            limit = int(np.searchsorted(above, far * above[-1] + 1e-9, side="right")) - 1
            cut = ordered[limit] if limit < len(ordered) else -1.0
            found[replicate] = cut, above[places] / above[-1], weights[accepted].sum() / weights.sum()
    return found


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.nanquantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
