"""Rates by group against plain loops, summaries against sums by hand."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from faceprint.errors import UserError
from faceprint.evaluation import fairness
from faceprint.evaluation.fairness import fairness_discrepancy_rate, garbe, group_rates, inequity_rate


def test_rates_are_those_of_loops() -> None:
    rng = np.random.default_rng(0)
    groups = ("ash", "birch", "cedar")
    same = rng.random(500) < 0.4
    a = rng.choice(groups, 500)
    b = np.where(same, a, rng.choice(groups, 500))
    scores = rng.normal(np.where(same, 0.4, 0), 0.3).round(1)
    found = group_rates(scores, same, a.tolist(), b.tolist(), 0.2)
    assert found.groups == list(groups)
    for i, one in enumerate(groups):
        mated = [s for s, t, x in zip(scores, same, a, strict=True) if t and x == one]
        assert found.fnmr[i] == sum(s <= 0.2 for s in mated) / len(mated)
        assert found.mated[i] == len(mated)
        for j, other in enumerate(groups):
            tried = [s for s, t, x, y in zip(scores, same, a, b, strict=True) if not t and {x, y} == {one, other}]
            assert found.fmr[i, j] == sum(s > 0.2 for s in tried) / len(tried)
            assert found.non_mated[i, j] == len(tried)


def test_a_rate_without_pairs_is_nan_and_a_person_has_one_group() -> None:
    found = group_rates([0.9, 0.1], [1, 0], ["x", "x"], ["x", "y"], 0.5)
    assert np.isnan(found.fnmr[1])
    assert np.isnan(found.fmr[0, 0])
    assert found.fmr[0, 1] == found.fmr[1, 0] == 0
    with pytest.raises(UserError, match="same pair 0 is of two groups, x and y"):
        group_rates([0.9], [1], ["x"], ["y"], 0.5)


def test_summaries_by_hand() -> None:
    fmr, fnmr = [0.001, 0.002, 0.005], [0.01, 0.04, 0.04]
    assert fairness_discrepancy_rate(fmr, fnmr) == pytest.approx(1 - (0.5 * 0.004 + 0.5 * 0.03))
    assert inequity_rate(fmr, fnmr) == pytest.approx(5**0.5 * 4**0.5)
    gini_fmr = 3 / 2 * (2 * (0.001 + 0.004 + 0.003)) / (2 * 9 * 0.008 / 3)
    gini_fnmr = 3 / 2 * (2 * (0.03 + 0.03 + 0)) / (2 * 9 * 0.03)
    assert garbe(fmr, fnmr) == pytest.approx((gini_fmr + gini_fnmr) / 2)


def test_extremes() -> None:
    assert garbe([0.1, 0.1], [0.0, 0.0]) == 0
    assert garbe([0, 0, 0, 1], [0, 0, 0, 1]) == pytest.approx(1)
    assert inequity_rate([0.0, 0.1], [0.1, 0.1]) is None
    with pytest.raises(UserError, match="at least two"):
        garbe([0.1], [0.1])
    with pytest.raises(UserError, match="pairs of both kinds"):
        garbe([0.1, np.nan], [0.1, 0.1])


def test_examples() -> None:
    assert doctest.testmod(fairness).failed == 0
