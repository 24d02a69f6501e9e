"""Every metric against plain loops on thousands of small cases full of ties, and against numbers worked by hand."""

from __future__ import annotations

import doctest
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from faceprint.errors import UserError
from faceprint.evaluation import metrics


def cases(number: int, *, cosines: bool = False, least: int = 2) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random scores, many of them tied, with both kinds of pairs in random shares."""
    random = np.random.default_rng(number)
    for _ in range(number):
        size = int(random.integers(least, 30))
        grain = random.choice([2, 5, 50, 200, 10**6])
        scores = random.integers(-grain, grain, size, endpoint=True) / grain
        if not cosines:
            scores *= random.choice([1e-3, 1.0, 37.5])
        same = random.random(size) < random.choice([0.2, 0.5, 0.8])
        same[random.permutation(size)[:2]] = [True, False]
        yield scores, same


def published_accuracy(scores: list[float], same: list[bool], num_folds: int) -> tuple[list[float], list[int]]:
    """The published loop, without a thought of speed: accuracy of each fold and the index of its threshold."""
    distances = [2 - 2 * score for score in scores]
    thresholds = [float(t) for t in np.arange(0, 4, 0.01)]
    size, more = divmod(len(scores), num_folds)
    folds, start = [], 0
    for number in range(num_folds):
        stop = start + size + (number < more)
        folds.append(range(start, stop))
        start = stop
    accuracies, chosen = [], []
    for held_out in folds:
        best, best_correct = 0, -1
        for index, threshold in enumerate(thresholds):
            correct = 0
            for pair in range(len(scores)):
                if pair not in held_out and (distances[pair] < threshold) == same[pair]:
                    correct += 1
            if correct > best_correct:
                best, best_correct = index, correct
        right = sum((distances[pair] < thresholds[best]) == same[pair] for pair in held_out)
        accuracies.append(right / len(held_out))
        chosen.append(best)
    return accuracies, chosen


def test_published_accuracy() -> None:
    for scores, same in cases(200, cosines=True, least=4):
        num_folds = min(len(scores), 2 + len(scores) % 4)
        result = metrics.verification_accuracy(scores, same, num_folds)
        accuracies, chosen = published_accuracy(scores.tolist(), same.tolist(), num_folds)
        assert result.accuracies.tolist() == accuracies
        assert result.mean == pytest.approx(math.fsum(accuracies) / num_folds, abs=1e-12)
        spread = math.fsum((accuracy - result.mean) ** 2 for accuracy in accuracies)
        assert result.std == pytest.approx(math.sqrt(spread / num_folds), abs=1e-12)
        assert np.allclose(result.thresholds, 1 - np.array(chosen) * 0.01 / 2, atol=1e-12)


def test_grid_thresholds_decide_as_the_distance_rule() -> None:
    """Scores on the grid itself, where rounding decides: the threshold in units of the score decides alike."""
    same = np.array([True, False, True, False])
    for step in range(-199, 200):
        scores = np.array([step / 200, -1.0, step / 200, -1.0])
        result = metrics.verification_accuracy(scores, same, folds=2)
        accuracies, _ = published_accuracy(scores.tolist(), same.tolist(), 2)
        for part, threshold, accuracy in zip((slice(2), slice(2, 4)), result.thresholds, accuracies, strict=True):
            assert np.mean((scores[part] > threshold) == same[part]) == accuracy


def test_fold_names_and_order_do_not_matter() -> None:
    for scores, same in cases(200, cosines=True, least=6):
        contiguous = metrics.verification_accuracy(scores, same, 3)
        names = np.repeat([7, -1, 100], [len(block) for block in np.array_split(scores, 3)])
        order = np.random.default_rng(0).permutation(len(scores))
        named = metrics.verification_accuracy(scores[order], same[order], names[order])
        assert named.accuracies.tolist() == contiguous.accuracies[[1, 0, 2]].tolist()  # in the order of the names
        assert named.mean == pytest.approx(contiguous.mean, abs=1e-12)


def test_exact_accuracy_by_loops() -> None:
    for scores, same in cases(300, least=4):
        result = metrics.verification_accuracy(scores, same, folds=2, rule="exact")
        half = (len(scores) + 1) // 2
        halves = [(scores[:half], same[:half]), (scores[half:], same[half:])]
        for (test, test_same), (train, train_same), threshold, accuracy in zip(
            halves, halves[::-1], result.thresholds, result.accuracies, strict=True
        ):
            reached = np.mean((train > threshold) == train_same)
            assert reached == max(np.mean((train > t) == train_same) for t in [-np.inf, *train])
            assert accuracy == np.mean((test > threshold) == test_same)


def test_accuracy_by_hand() -> None:
    """Each fold is separated by many thresholds; the strictest of the grid is taken to the other fold.

    Fold 2: cosine 0.9001 is distance 0.1998, first accepted at 0.20, cosine 0.9: in fold 1 it misses 0.7001, 3 of 4.
    Fold 1: cosine 0.7001 is distance 0.5998, first accepted at 0.60, cosine 0.7: in fold 2 it makes no error.
    """
    scores = [0.7001, 0.95, 0.3, 0.1, 0.9001, 0.99, 0.5, -0.2]
    same = [1, 1, 0, 0, 1, 1, 0, 0]
    result = metrics.verification_accuracy(scores, same, folds=2)
    assert result.accuracies.tolist() == [0.75, 1.0]
    assert result.mean == 0.875
    assert result.std == 0.125
    assert np.allclose(result.thresholds, [0.9, 0.7])


def test_lfw_sized_accuracy_is_quick() -> None:
    random = np.random.default_rng(0)
    same = np.tile(np.repeat([True, False], 300), 10)
    scores = np.clip(random.normal(same * 0.5, 0.15), -1, 1)
    fastest = math.inf
    for _ in range(5):
        start = time.perf_counter()
        metrics.verification_accuracy(scores, same)
        fastest = min(fastest, time.perf_counter() - start)
    assert fastest < 0.05  # about 0.002


def test_best_threshold_by_loops() -> None:
    for scores, same in cases(1000):
        best = metrics.best_threshold_accuracy(scores, same)
        by_threshold = {t: np.mean((scores > t) == same) for t in [-np.inf, *scores]}
        assert best.accuracy == max(by_threshold.values())
        assert np.mean((scores > best.threshold) == same) == best.accuracy
        strictest = max(t for t, accuracy in by_threshold.items() if accuracy == best.accuracy)
        assert np.array_equal(scores > best.threshold, scores > strictest)
        assert math.isfinite(best.threshold)


def test_best_threshold_between_neighbouring_floats() -> None:
    for low, high in [(0.5, math.nextafter(0.5, 1)), (-math.nextafter(0, 1), 0.0), (0.0, math.nextafter(0, 1))]:
        best = metrics.best_threshold_accuracy([low, high], [0, 1])
        assert best.accuracy == 1.0
        assert low <= best.threshold < high


def test_tar_at_far_by_loops() -> None:
    random = np.random.default_rng(1)
    for scores, same in cases(1000):
        far = float(random.choice([0, 0.01, 0.1, 0.25, 0.3, 0.5, 0.9, 1, random.random()]))
        point = metrics.tar_at_far(scores, same, far)
        negatives = sum(1 for kind in same if not kind)
        within = []
        for threshold in [*scores[~same].tolist(), -math.inf]:
            accepts = sum(1 for score, kind in zip(scores, same, strict=True) if score > threshold and not kind)
            if accepts <= far * negatives + 1e-9:
                within.append(threshold)
        assert point.threshold == min(within)
        assert point.tar == sum(score > point.threshold for score in scores[same]) / same.sum()
        assert point.false_accepts == sum(score > point.threshold for score in scores[~same])


def test_tar_at_far_by_hand() -> None:
    impostors = [i / 1000 for i in range(1000)]
    scores, same = [*impostors, 0.9995, 0.9985, 0.9895, 0.5], [0] * 1000 + [1] * 4
    point = metrics.tar_at_far(scores, same, 1e-3)  # K = 1: above the second largest, 0.998
    assert (point.threshold, point.tar, point.false_accepts) == (0.998, 0.5, 1)
    none = metrics.tar_at_far(scores, same, 1e-4)  # K = 0
    assert (none.threshold, none.tar, none.false_accepts) == (0.999, 0.25, 0)
    everything = metrics.tar_at_far(scores, same, 1)
    assert (everything.threshold, everything.tar, everything.false_accepts) == (-math.inf, 1.0, 1000)
    tied = metrics.tar_at_far([0.5] * 10 + [0.6, 0.4], [0] * 10 + [1, 1], 0.3)
    assert (tied.threshold, tied.tar, tied.false_accepts) == (0.5, 0.5, 0)


@pytest.mark.parametrize("far", [1e-1, 1e-2, 1e-3, 0.3, 0.7, 0.29, 0.57])
def test_far_times_count_is_not_lost_to_rounding(far: float) -> None:
    for count in (10, 100, 1000):  # 0.29 * 100 is 29 less a rounding error
        point = metrics.tar_at_far([*range(count), 5000], [0] * count + [1], far)
        assert point.false_accepts == math.floor(round(far * count, 6))


def test_roc_by_loops() -> None:
    for scores, same in cases(500):
        curve = metrics.roc(scores, same)
        assert len(curve.thresholds) == len(set(scores.tolist())) + 1
        assert (np.diff(curve.thresholds) < 0).all()
        for far, tar, threshold in zip(curve.far, curve.tar, curve.thresholds, strict=True):
            assert far == np.mean(scores[~same] > threshold)
            assert tar == np.mean(scores[same] > threshold)
        assert (curve.far[0], curve.tar[0], curve.far[-1], curve.tar[-1]) == (0, 0, 1, 1)


def test_auc_is_the_chance_to_rank_right() -> None:
    for scores, same in cases(500):
        wins = [(a > b) + 0.5 * (a == b) for a in scores[same] for b in scores[~same]]
        assert metrics.auc(scores, same) == pytest.approx(math.fsum(wins) / len(wins), abs=1e-12)


def test_eer_lies_on_the_roc_and_on_the_diagonal() -> None:
    for scores, same in cases(500):
        rate = metrics.eer(scores, same)
        curve = metrics.roc(scores, same)
        on_curve = [
            far + (1 - tar - far) * (next_far - far) / (next_far - far + next_tar - tar)  # where far = 1 - tar
            for far, tar, next_far, next_tar in zip(
                curve.far[:-1], curve.tar[:-1], curve.far[1:], curve.tar[1:], strict=True
            )
            if far <= 1 - tar + 1e-12 and next_far >= 1 - next_tar - 1e-12
        ]
        assert on_curve
        assert all(rate == pytest.approx(value, abs=1e-9) for value in on_curve)


@pytest.mark.parametrize(
    ("scores", "same", "rate"),
    [
        ([4, 3, 2, 1], [1, 1, 0, 0], 0.0),
        ([4, 3, 2, 1], [0, 0, 1, 1], 1.0),
        ([4, 3, 2, 1], [1, 0, 1, 0], 0.5),
        ([1, 1, 1, 1], [1, 0, 1, 0], 0.5),  # one step from (0, 0) to (1, 1)
        ([5, 4, 3, 2, 1], [1, 1, 0, 1, 0], 1 / 3),  # (0, 2/3) to (1/2, 2/3): FAR 1/3 = 1 - 2/3
        ([5, 4, 3, 2, 1, 0], [1, 1, 1, 0, 1, 0], 0.25),  # (0, 3/4) to (1/2, 3/4)
    ],
)
def test_eer_by_hand(scores: list[float], same: list[int], rate: float) -> None:
    assert metrics.eer(scores, same) == pytest.approx(rate, abs=1e-12)


FUNCTIONS: list[Any] = [
    metrics.verification_accuracy,
    metrics.best_threshold_accuracy,
    lambda scores, same: metrics.tar_at_far(scores, same, 0.1),
    metrics.roc,
    metrics.eer,
    metrics.auc,
]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("scores", "same", "message"),
    [
        ([], [], "no pairs"),
        ([0.1, 0.2], [1], "equally long"),
        ([[0.1, 0.2]], [[1, 0]], "equally long"),
        ([0.1, math.nan], [1, 0], "pair 1 has nan"),
        ([math.inf, 0.1], [1, 0], "pair 0 has inf"),
        ([0.1, 0.2], [1, 2], "true/false"),
        ([0.1, 0.2], [1, math.nan], "true/false"),
        ([0.1, 0.2], [1, 1], "all 2 pairs are of one kind"),
        ([0.1, 0.2], [False, False], "all 2 pairs are of one kind"),
    ],
)
def test_refused(function: Any, scores: Any, same: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        function(scores, same)


@pytest.mark.parametrize(
    ("scores", "folds", "rule", "message"),
    [
        ([0.1, 0.2, 3.0], 2, "grid", 'rule="exact"'),
        ([0.1, 0.2, 0.3], 4, "grid", "3 pairs can't be split into 4 folds"),
        ([0.1, 0.2, 0.3], 1, "exact", "2 to 3 are allowed"),
        ([0.1, 0.2, 0.3], [1, 1], "grid", "each of 3 pairs"),
        ([0.1, 0.2, 0.3], [1, 1, 1], "grid", "one fold"),
        ([0.1, 0.2, 0.3], [0.5, 1, 1], "grid", "whole number"),
    ],
)
def test_folds_refused(scores: list[float], folds: Any, rule: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        metrics.verification_accuracy(scores, [1, 0, 1], folds, rule=rule)


@pytest.mark.parametrize("far", [-0.1, 1.1, math.nan])
def test_far_refused(far: float) -> None:
    with pytest.raises(UserError, match="fraction between 0 and 1"):
        metrics.tar_at_far([0.1, 0.2], [0, 1], far)


def test_rounding_beyond_one_is_clipped() -> None:
    """A cosine of 1 + 1e-7 is a negative distance, which the published rule would accept at threshold 0."""
    scores, same = [1 + 1e-7, 0.1, 1.0, 0.2], [1, 0, 1, 0]
    assert metrics.verification_accuracy(scores, same, 2).mean == 1.0


def test_documented_examples() -> None:
    result = doctest.testmod(metrics)
    assert result.failed == 0
    assert result.attempted >= 15


def test_metrics_need_numpy_alone() -> None:
    program = (
        "import sys; import faceprint.evaluation.metrics;"
        "print(sorted({'torch', 'cv2', 'pydantic', 'scipy', 'sklearn'} & {*sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def searches(number: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Random searches, many of them tied, of galleries with several entries an identity."""
    random = np.random.default_rng(number)
    for _ in range(number):
        probes, entries, people = random.integers(1, [12, 9, 7])
        grain = random.choice([1, 3, 50, 10**6])
        scores = random.integers(-grain, grain, (probes, entries), endpoint=True) / grain
        yield scores, random.integers(0, people + 1, probes), random.integers(0, people + 1, entries)


def rank_by_loops(row: list[float], own: int, gallery: list[int], for_mate: bool) -> int:
    best: dict[int, float] = {}
    for score, person in zip(row, gallery, strict=True):
        best[person] = max(score, best.get(person, -math.inf))
    if own not in best:
        return 0
    others = [score for person, score in best.items() if person != own]
    return 1 + sum(score > best[own] or (score == best[own] and not for_mate) for score in others)


def test_ranks_by_loops() -> None:
    seen = set()
    for scores, probes, gallery in searches(2000):
        for ties in ("against_mate", "for_mate"):
            ranks = metrics.mate_ranks(scores, probes, gallery, ties=ties)
            expected = [
                rank_by_loops(row, own, gallery.tolist(), ties == "for_mate")
                for row, own in zip(scores.tolist(), probes.tolist(), strict=True)
            ]
            assert ranks.tolist() == expected
            mated = ranks > 0
            seen.add((bool(mated.all()), bool(mated.any())))
            if not mated.all():
                with pytest.raises(UserError, match=rf"{(~mated).sum()} of {len(probes)} probes have no mate"):
                    metrics.cmc(scores, probes, gallery, ties=ties)
                continue
            curve = metrics.cmc(scores, probes, gallery, ties=ties)
            assert len(curve) == len(set(gallery.tolist()))
            for k in range(1, len(curve) + 3):
                within = sum(rank <= k for rank in expected)
                assert metrics.rank_k(scores, probes, gallery, k, ties=ties) == within / len(probes)
            assert curve[-1] == 1
    assert seen == {(True, True), (False, True), (False, False)}


def test_one_embedding_for_everybody_is_the_worst() -> None:
    scores, ids = np.full((3, 3), 0.5), np.arange(3)
    assert metrics.rank_k(scores, ids, ids) == 0
    assert metrics.rank_k(scores, ids, ids, ties="for_mate") == 1


def test_tpir_at_fpir_by_loops() -> None:
    random = np.random.default_rng(2)
    checked = 0
    for scores, probes, gallery in searches(3000):
        fpir, rank = float(random.choice([0, 0.1, 0.3, 0.5, 1])), int(random.integers(1, 4))
        ranks = [
            rank_by_loops(r, p, gallery.tolist(), False) for r, p in zip(scores.tolist(), probes.tolist(), strict=True)
        ]
        strangers = [max(row) for row, place in zip(scores.tolist(), ranks, strict=True) if not place]
        mates = [
            (max(score for score, person in zip(row, gallery.tolist(), strict=True) if person == own), place)
            for row, own, place in zip(scores.tolist(), probes.tolist(), ranks, strict=True)
            if place
        ]
        if not strangers or not mates:
            with pytest.raises(UserError, match="of one kind"):
                metrics.tpir_at_fpir(scores, probes, gallery, fpir, rank=rank)
            continue
        point = metrics.tpir_at_fpir(scores, probes, gallery, fpir, rank=rank)
        allowed = [t for t in [*strangers, -math.inf] if sum(s > t for s in strangers) <= fpir * len(strangers) + 1e-9]
        assert point.threshold == min(allowed)
        assert point.false_positives == sum(score > point.threshold for score in strangers)
        assert point.tpir == sum(score > point.threshold and place <= rank for score, place in mates) / len(mates)
        checked += 1
    assert checked > 1000


SEARCHES: list[Any] = [
    metrics.mate_ranks,
    metrics.cmc,
    metrics.rank_k,
    lambda scores, probes, gallery: metrics.tpir_at_fpir(scores, probes, gallery, 0.1),
]


@pytest.mark.parametrize("function", SEARCHES)
@pytest.mark.parametrize(
    ("scores", "probes", "gallery", "message"),
    [
        ([[0.1, math.nan]], [1], [1, 2], "probe 0 has nan with entry 1"),
        ([[0.1, 0.2]], [1], [1], "probes x gallery"),
        ([0.1, 0.2], [1], [1, 2], "probes x gallery"),
        (np.zeros((0, 2)), np.zeros(0, int), [1, 2], "no probes"),
        (np.zeros((2, 0)), [1, 2], np.zeros(0, int), "nobody is in the gallery"),
        ([[0.1, 0.2]], [1.0], [1, 2], "whole numbers"),
        ([[0.1, 0.2]], ["a"], [1, 2], "whole numbers"),
    ],
)
def test_searches_refused(function: Any, scores: Any, probes: Any, gallery: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        function(scores, probes, gallery)


def test_search_options_refused() -> None:
    search = ([[0.1, 0.2]], [1], [1, 2])
    with pytest.raises(UserError, match="k is 0"):
        metrics.rank_k(*search, 0)
    with pytest.raises(UserError, match="ties is 'no'"):
        metrics.rank_k(*search, ties="no")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="rank is 0"):
        metrics.tpir_at_fpir(*search, 0.1, rank=0)
    with pytest.raises(UserError, match="fraction between 0 and 1"):
        metrics.tpir_at_fpir(*search, math.nan)


def test_det_is_the_roc_seen_from_the_errors() -> None:
    for scores, same in cases(300):
        curve = metrics.det(scores, same)
        for fmr, fnmr, threshold in zip(curve.fmr, curve.fnmr, curve.thresholds, strict=True):
            assert fmr == sum(score > threshold for score in scores[~same]) / (~same).sum()
            assert fnmr == sum(score <= threshold for score in scores[same]) / same.sum()


def test_curves_are_those_of_scikit_learn() -> None:
    """Its first threshold is infinite and its others accept `score >= threshold`: the same corners one place on."""
    from sklearn.metrics import roc_auc_score, roc_curve

    for scores, same in cases(1000):
        far, tar, thresholds = roc_curve(same, scores, drop_intermediate=False)
        curve = metrics.roc(scores, same)
        assert curve.far.tolist() == far.tolist()
        assert curve.tar.tolist() == tar.tolist()
        assert curve.thresholds[:-1].tolist() == thresholds[1:].tolist()
        assert metrics.auc(scores, same) == pytest.approx(roc_auc_score(same, scores), abs=1e-12)


def test_equal_scores_carry_nothing() -> None:
    for count in (1, 7, 1000):
        scores, same = [0.25] * (2 * count), [1] * count + [0] * count
        curve = metrics.roc(scores, same)
        assert (curve.far.tolist(), curve.tar.tolist()) == ([0, 1], [0, 1])
        assert (metrics.eer(scores, same), metrics.auc(scores, same)) == (0.5, 0.5)
        assert metrics.tar_at_far(scores, same, 0.5) == metrics.TarAtFar(0.0, 0.25, 0)
        assert metrics.best_threshold_accuracy(scores, same).accuracy == 0.5


def test_float32_scores_are_taken_as_they_are() -> None:
    """Counting and dividing is done in float64: the same figures from the same numbers in either type."""
    for scores, same in cases(200, cosines=True, least=4):
        single = scores.astype(np.float32)
        double = single.astype(np.float64)
        assert metrics.auc(single, same) == metrics.auc(double, same)
        assert metrics.eer(single, same) == metrics.eer(double, same)
        assert (
            metrics.verification_accuracy(single, same, 2).mean == metrics.verification_accuracy(double, same, 2).mean
        )
