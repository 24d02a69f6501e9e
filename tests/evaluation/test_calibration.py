"""Calibration: the threshold by a loop, the bootstrap by its own definition, and what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from faceprint.errors import UserError
from faceprint.evaluation.calibration import calibrate, check_support


def drawn(people: int, spread: float = 0.1, seed: int = 0):
    """All pairs of `people` with two images each; a person's own shift makes their pairs depend on each other."""
    rng = np.random.default_rng(seed)
    first, second, same, scores = [], [], [], []
    shift = rng.normal(0, spread, people)
    for a, b in itertools.combinations_with_replacement(range(people), 2):
        first.append(a)
        second.append(b)
        same.append(a == b)
        scores.append(0.6 * (a == b) + shift[a] + shift[b] + rng.normal(0, 0.05))
    return np.array(scores), np.array(same), (np.array(first), np.array(second))


def test_threshold_by_counting() -> None:
    scores, same, people = drawn(60)
    found = calibrate(scores, same, people, 0.02, identities="names")
    negatives = scores[~same]
    assert np.mean(negatives > found.threshold) <= 0.02
    lower = max(score for score in negatives if score < found.threshold)
    assert np.mean(negatives > lower) > 0.02 - 1 / len(negatives)
    assert found.far_measured == np.mean(negatives > found.threshold) == found.false_accepts / len(negatives)
    assert found.tar == np.mean(scores[same] > found.threshold)
    assert (found.num_identities, found.num_same, found.num_different) == (60, 60, 1770)
    for name in ("threshold", "tar"):
        low, high = getattr(found, f"{name}_interval")
        assert low <= getattr(found, name) <= high
    assert found.far_interval[0] <= found.far_measured <= found.far_interval[1]


def test_bootstrap_by_expanding_each_sample() -> None:
    """Each drawn person stands as often as drawn: pairs are repeated, and the exact rule applied to the long list."""
    scores, same, people = drawn(12)
    found = calibrate(scores, same, people, 0.1, identities="names", replicates=200, seed=7)
    rng = np.random.default_rng(7)
    limits, fars, tars = [], [], []
    for _ in range(200):
        sample = rng.integers(0, 12, 12)
        times = [int((sample == person).sum()) for person in range(12)]
        negatives, positives = [], []
        for score, kind, a, b in zip(scores, same, *people, strict=True):
            if kind:
                positives += [score] * times[a]
            else:
                negatives += [score] * (times[a] * times[b])
        allowed = int(0.1 * len(negatives) + 1e-9)
        limits.append(sorted(negatives, reverse=True)[allowed])
        fars.append(np.mean(np.array(negatives) > found.threshold))
        tars.append(np.mean(np.array(positives) > found.threshold))
    assert found.threshold_interval == pytest.approx(np.quantile(limits, [0.025, 0.975]))
    assert found.far_interval == pytest.approx(np.quantile(fars, [0.025, 0.975]))
    assert found.tar_interval == pytest.approx(np.quantile(tars, [0.025, 0.975]))


def test_the_interval_covers_what_other_people_give() -> None:
    """Over sets of other people the threshold spreads more than pairs alone would say; the interval knows."""
    widths = []
    truths = [
        calibrate(*drawn(40, seed=seed), 0.05, identities="names", replicates=100).threshold for seed in range(40)
    ]
    covered = 0
    for seed in range(40):
        low, high = calibrate(*drawn(40, seed=seed), 0.05, identities="names", replicates=200).threshold_interval
        covered += low <= np.mean(truths) <= high
        widths.append(high - low)
    assert covered >= 32  # 95 % less what 40 sets and small samples of people take
    assert np.mean(widths) < 8 * np.std(truths)


@pytest.mark.parametrize(
    ("far", "num", "expected"),
    [(1e-3, 30_000, "rule of 30"), (1e-3, 29_999, "rule of 3 only"), (1e-3, 3000, "rule of 3")],
)
def test_supported(far: float, num: int, expected: str) -> None:
    assert check_support(far, num).startswith(expected)


@pytest.mark.parametrize(
    ("far", "num", "message"),
    [
        (1e-3, 2999, "2,999 pairs of different people can't support FAR 0.001: the rule of 3 needs 3,000.*30,000"),
        (1e-6, 3000, "ask for 0.001 or more"),
        (1e-3, 0, "take another set"),
        (0.0, 10**9, "above 0"),
        (1.0, 10**9, "below 1"),
        (float("nan"), 10**9, "above 0"),
    ],
)
def test_refused(far: float, num: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_support(far, num)
