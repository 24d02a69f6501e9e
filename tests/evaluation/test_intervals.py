"""Weighted figures against repeated pairs, the bootstrap against its theory, exact tests against sums."""

from __future__ import annotations

import doctest
from itertools import combinations
from math import comb

import numpy as np
import pytest

from faceprint.errors import UserError
from faceprint.evaluation import intervals, metrics
from faceprint.evaluation.intervals import PairStatistics, bootstrap_weights, compare, mcnemar, quantiles, sign_test

FARS = ("1e-1", "1e-2")


def made_up(
    seed: int, count: int = 240, folds: int = 4, ties: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    same = rng.random(count) < 0.5
    scores = np.clip(rng.normal(np.where(same, 0.4, 0.0), 0.25), -1, 1)
    return (scores.round(1) if ties else scores), same, np.arange(count) % folds


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("folds", [1, 4])
def test_whole_weights_are_repeated_pairs(seed: int, folds: int) -> None:
    scores, same, fold = made_up(seed, folds=folds, ties=seed % 2 == 0)
    weights = np.random.default_rng(seed + 100).integers(0, 4, len(scores))
    again = [np.repeat(values, weights) for values in (scores, same, fold)]
    found = dict(zip(*[(s := PairStatistics(scores, same, fold, FARS)).names, s(weights)], strict=True))
    if folds == 1:
        expected = metrics.best_threshold_accuracy(*again[:2]).accuracy
    else:
        expected = metrics.verification_accuracy(again[0], again[1], again[2]).mean
    assert found["accuracy"] == pytest.approx(expected, abs=1e-12)
    assert found["eer"] == pytest.approx(metrics.eer(*again[:2]), abs=1e-12)
    assert found["auc"] == pytest.approx(metrics.auc(*again[:2]), abs=1e-12)
    for far in FARS:
        assert found[f"tar_at_far_{far}"] == pytest.approx(metrics.tar_at_far(*again[:2], float(far)).tar, abs=1e-12)


def test_no_weight_of_one_kind_is_undefined() -> None:
    scores, same, fold = made_up(0)
    assert np.isnan(PairStatistics(scores, same, fold)(same.astype(float))).all()


def test_weights_are_products_of_how_often_people_come() -> None:
    first, second = np.array([0, 0, 1, 2]), np.array([0, 1, 2, 2])
    same = np.array([True, False, False, True])
    rng = np.random.default_rng(7)
    for weights in bootstrap_weights(first, second, same, 50, seed=7):
        times = [int((drawn == person).sum()) for drawn in [rng.integers(3, size=3)] for person in range(3)]
        assert weights.tolist() == [times[0], times[0] * times[1], times[1] * times[2], times[2]]


def test_the_interval_of_a_mean_over_people_is_that_of_theory() -> None:
    """TAR at a threshold far from all scores' ties: people who are all right or all wrong, ten pairs each."""
    people, wrong = 400, 80
    subject = np.repeat(np.arange(people), 10)
    rights = np.repeat(np.arange(people) >= wrong, 10)
    same = np.ones(len(subject), bool)
    drawn = [np.average(rights, weights=w) for w in bootstrap_weights(subject, subject, same, 2000)]
    expected = np.sqrt(0.2 * 0.8 / people)
    assert np.std(drawn) == pytest.approx(expected, rel=0.1)
    assert np.std(drawn) > 2.5 * np.sqrt(0.2 * 0.8 / len(subject))  # what resampled pairs would claim


def test_comparison_of_a_model_with_itself_and_with_a_better_one() -> None:
    rng = np.random.default_rng(3)
    first, second = (
        np.array([*range(60), *(a for a, _ in combinations(range(60), 2))]),
        np.array([*range(60), *(b for _, b in combinations(range(60), 2))]),
    )
    same = np.arange(len(first)) < 60
    base = np.where(same, 0.3, 0.0)
    worse, better = (np.clip(base + rng.normal(0, width, len(same)), -1, 1) for width in (0.3, 0.05))
    fold = np.zeros(len(same), int)
    a, b = (PairStatistics(scores, same, fold) for scores in (worse, better))
    alike = compare(a, a, first, second, same, draws=50)
    assert all((d.value, d.low, d.high, d.p_value) == (0, 0, 0, 1) for d in alike.values())
    found = compare(a, b, first, second, same, draws=200)["auc"]
    assert found.value == pytest.approx(metrics.auc(better, same) - metrics.auc(worse, same), abs=1e-12)
    assert found.low > 0
    assert found.p_value == pytest.approx(2 / 201)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (3, 3), (2, 9), (40, 61), (500, 460)])
def test_sign_test_is_the_binomial_sum(wins: int, losses: int) -> None:
    total = wins + losses
    exact = min(1.0, 2 * sum(comb(total, k) for k in range(min(wins, losses) + 1)) / 2**total)
    assert sign_test(wins, losses) == pytest.approx(exact, abs=1e-10)


def test_mcnemar_counts_where_one_is_right() -> None:
    found = mcnemar([1, 1, 0, 0, 1], [1, 0, 1, 0, 0])
    assert (found.only_first, found.only_second, found.p_value) == (2, 1, 1.0)
    with pytest.raises(UserError, match="same pairs"):
        mcnemar([1], [1, 0])


def test_too_few_people() -> None:
    with pytest.raises(UserError, match="at least 2"):
        next(bootstrap_weights(np.zeros(3, int), np.zeros(3, int), np.ones(3, bool), 5))
    with pytest.raises(UserError, match="too few people"):
        quantiles(np.array([np.nan]))


def test_examples() -> None:
    assert doctest.testmod(intervals).failed == 0
