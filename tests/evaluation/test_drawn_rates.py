"""Intervals of searches and of all pairs: each draw by loops over repeated searches and pairs, and what theory says."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from synthetic_ijb import write_ijb

from faceprint.errors import UserError
from faceprint.evaluation import metrics
from faceprint.evaluation import products as module
from faceprint.evaluation.drawn_rates import DrawnRate, HeldRates, allowed, kept_for_draws
from faceprint.evaluation.embedding_set import EmbeddingSet
from faceprint.evaluation.fairness import WithinGroups
from faceprint.evaluation.figures import wilson
from faceprint.evaluation.identification import comparison_det, identification_det, search_intervals
from faceprint.evaluation.ijb import FPIRS, RANKS, ijb_1n, ijbc
from faceprint.evaluation.intervals import PersonDraws, quantiles
from faceprint.evaluation.megaface import size_intervals
from faceprint.evaluation.megaface_counts import count_megaface
from faceprint.evaluation.mfr import MfrList, all_to_all, one_to_other, score_mfr
from faceprint.evaluation.pairs import PairSet
from faceprint.evaluation.products import unit_rows
from faceprint.evaluation.templates import template_scores
from faceprint.evaluation.uncertainty import group_intervals

DRAWS = 40


def times_of(people: int, draws: int = DRAWS, seed: int = 0) -> Iterator[list[int]]:
    """How often each comes, counted one by one."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        drawn = rng.integers(people, size=people).tolist()
        yield [drawn.count(person) for person in range(people)]


def interval_of(drawn: list[float]) -> dict[str, Any]:
    known = [value for value in drawn if value == value]
    low, high = np.quantile(known, [0.025, 0.975])
    return {
        "low": pytest.approx(low, abs=1e-12),
        "high": pytest.approx(high, abs=1e-12),
        "undefined": len(drawn) - len(known),
        "unreached": 0,
    }


def repeated(times: list[int], owner: np.ndarray) -> np.ndarray:
    """Rows of things, each as often as its person comes."""
    return np.array([row for row, person in enumerate(owner) for _ in range(times[person])], int)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_drawn_rate_is_that_of_repeated_scores(seed: int, paired: bool) -> None:
    rng = np.random.default_rng(seed)
    people, fars = 8, [0.0, 0.01, 0.1, 0.5, 1.0]
    genuine, impostor = rng.normal(1, 1, 60).round(1), rng.normal(0, 1, 200).round(1)  # with ties
    owner, first, second = rng.integers(people, size=60), rng.integers(people, size=200), rng.integers(people, size=200)
    rate = DrawnRate(genuine, owner, impostor, first, second if paired else None)
    for times in PersonDraws(people, DRAWS, seed):
        weight = times[first] * (times[second] if paired else 1)
        scores = np.append(np.repeat(genuine, times[owner]), np.repeat(impostor, weight))
        same = np.arange(len(scores)) < times[owner].sum()
        expected = [metrics.tar_at_far(scores, same, far).tar for far in fars]
        assert rate(times, allowed(fars, int(weight.sum()))).tolist() == expected


def test_a_rate_without_positives_or_negatives_is_not_defined() -> None:
    rate = DrawnRate([0.5, 0.7], np.array([0, 0]), [0.6, 0.1], np.array([1, 2]))
    assert np.isnan(rate(np.array([0, 2, 1]), np.array([0.0]))).all()
    assert np.isnan(rate(np.array([3, 0, 0]), allowed([0.5], 0))).all()
    assert rate(np.array([1, 1, 1]), np.array([-1.0, 0.0, 2.0])).tolist()[1:] == [0.5, 1.0]
    held = HeldRates(np.array([0, 1]), 3, {"a": ([1, 0], [1, 1])})
    assert np.isnan(held(np.array([0, 0, 3]))).all()
    assert held(np.array([2, 1, 0])).tolist() == [2 / 3]


def test_scores_that_were_not_kept_are_never_guessed() -> None:
    """Person 0 has the four highest negatives: without them the threshold is one that was not kept."""
    people, far = 6, 0.2
    negatives, first = np.linspace(1, 0, 20), np.array([0] * 4 + [1, 2, 3, 4] * 4)
    positives, owner = np.linspace(0.3, 0.9, 12), np.arange(12) % 6
    whole, cut = (DrawnRate(positives, owner, negatives[:n], first[:n], complete=n == 20) for n in (20, 5))
    seen = {True: 0, False: 0}
    for times in PersonDraws(people, 200):
        budget = allowed([far], int(times[first].sum()))
        (found,), (expected,) = cut(times, budget), whole(times, budget)
        needed = np.searchsorted(np.cumsum(times[first]), budget[0], side="right") >= 5
        seen[bool(needed)] += 1
        assert found == np.inf if needed else found == expected
    assert min(seen.values()) > 20
    interval = quantiles(np.array([0.5, np.inf, np.nan]))
    assert (interval.high, interval.undefined, interval.unreached) == (pytest.approx(0.9875), 1, 1)
    assert [kept_for_draws(0, 50), kept_for_draws(0, 5000), kept_for_draws(1000, 10**9)] == [50, 1028, 5028]


@pytest.fixture
def search() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ten enrolled; each is looked for two to five times, and of twelve strangers each five times."""
    rng = np.random.default_rng(1)
    probes = np.concatenate([np.repeat(np.arange(10), rng.integers(2, 6, 10)), np.repeat(np.arange(20, 32), 5)])
    centres = rng.normal(size=(32, 8))
    vectors = unit_rows(centres[probes] + 0.9 * rng.normal(size=(len(probes), 8)), range(len(probes)))
    return vectors @ unit_rows(centres[:10], range(10)).T, probes, np.arange(10)


def test_identification_is_a_loop_over_repeated_searches(search: tuple[np.ndarray, ...]) -> None:
    scores, probes, enrolled = search
    mates, ranks = probes[:, None] == enrolled, metrics.mate_ranks(scores, probes, enrolled)
    result = {
        "fnir_at_rank": {"1": 0.0, "5": 0.0},
        "identification_det": identification_det(scores, probes, enrolled),
        "comparison_det": comparison_det(scores, mates),
    }
    found = search_intervals(result, scores, mates, ranks, probes, DRAWS, seed=3)
    assert (found["people"], found["draws"], found["level"]) == (22, DRAWS, 0.95)
    owner = np.unique(probes, return_inverse=True)[1]
    drawn: dict[str, list[float]] = {name: [] for name in found["figures"]}
    for times in times_of(22, seed=3):
        rows = repeated(times, owner)
        again, ids = scores[rows], probes[rows]
        mated = np.isin(ids, enrolled)
        places = metrics.mate_ranks(again, ids, enrolled)
        for rank in (1, 5):
            drawn[f"fnir_at_rank_{rank}"].append(np.mean(places[mated] > rank))
        for point in result["identification_det"]:
            fpir, threshold = point["fpir"], point["threshold"]
            anew = metrics.tpir_at_fpir(again, ids, enrolled, float(fpir))
            drawn[f"fnir_at_fpir_{fpir}"].append(1 - anew.tpir)
            drawn[f"fpir_at_fpir_{fpir}"].append(np.mean(again[~mated].max(axis=1) > threshold))
            others = [sum(s > threshold for s, who in zip(row, enrolled, strict=True) if who != person)
                      for row, person in zip(again, ids, strict=True)]  # fmt: skip
            drawn[f"selectivity_at_fpir_{fpir}"].append(np.mean(others))
        for point in result["comparison_det"]:
            own = again[mated, ids[mated]]
            drawn[f"fnmr_at_fmr_{point['fmr']}"].append(np.mean(own <= point["threshold"]))
    assert len(drawn) == 2 + 3 * len(result["identification_det"]) + len(result["comparison_det"]) > 10
    assert found["figures"] == {name: interval_of(values) for name, values in drawn.items()}
    assert found["held"] == [name for name in drawn if not name.startswith("fnir")]


def test_a_closed_set_has_no_threshold(search: tuple[np.ndarray, ...]) -> None:
    scores, probes, enrolled = (part[:20] for part in search)
    mates, ranks = probes[:, None] == enrolled, metrics.mate_ranks(scores, probes, enrolled)
    result = {"fnir_at_rank": {"1": 0.0}, "identification_det": [], "comparison_det": []}
    found = search_intervals(result, scores, mates, ranks, probes, DRAWS)
    assert list(found["figures"]) == ["fnir_at_rank_1"]
    with pytest.raises(UserError, match="at least 2 of them"):
        search_intervals(result, scores, mates, ranks, np.zeros(20, int), DRAWS)


def test_searches_of_both_galleries_are_a_loop(tmp_path: Any) -> None:
    ijb = write_ijb(tmp_path)
    features = EmbeddingSet(vectors=ijb.features.astype(np.float32), names=ijb.names)
    task = ijb_1n(ijb.folder, other_sizes=True)
    result = task.score(features, draws=DRAWS)
    templates = task.faces.templates(features)
    vector = dict(zip(templates.ids.tolist(), templates.vectors, strict=True))
    probes = sorted(ijb.probes)
    names = ["rank_1", "rank_5", "rank_10"]
    names += [f"{rule}_{fpir}" for rule in ("tpir_at_fpir", "tpir_at_fpir_published") for fpir in FPIRS]
    drawn: dict[str, list[float]] = {n: [] for n in [*names, *(f"{g} {n}" for g in ijb.galleries for n in names)]}
    for times in times_of(16):
        sides: list[dict[str, float]] = []
        hits, searches = dict.fromkeys(RANKS, 0), 0
        for gallery, enrolled in ijb.galleries.items():
            who = np.array([subject for _, subject in enrolled])
            again = [(template, subject) for template, subject in probes for _ in range(times[subject - 100])]
            scores = np.stack([[vector[t] @ vector[g] for g, _ in enrolled] for t, _ in again])
            ids = np.array([subject for _, subject in again])
            places = metrics.mate_ranks(scores, ids, who)
            mated, side = places > 0, {}
            for rank in RANKS:
                side[f"rank_{rank}"] = np.mean(places[mated] <= rank)
                hits[rank] += np.count_nonzero(places[mated] <= rank)
            searches += mated.sum()
            strangers = int((~mated).sum())
            for fpir in FPIRS:
                side[f"tpir_at_fpir_{fpir}"] = metrics.tpir_at_fpir(scores, ids, who, float(fpir)).tpir
                count = int(strangers * float(fpir)) - 1
                at = metrics.tpir_at_fpir(scores, ids, who, max(0, count) / strangers).tpir
                side[f"tpir_at_fpir_published_{fpir}"] = at if count >= 0 else np.nan
            sides.append(side)
            for name, value in side.items():
                drawn[f"{gallery} {name}"].append(value)
        for name in names:
            drawn[name].append(float(np.mean([side[name] for side in sides])))
        for rank in RANKS:
            drawn[f"rank_{rank}"][-1] = hits[rank] / searches
    expected = {
        name: interval_of(values)
        for name, values in drawn.items()
        if not name.endswith("published_0.01")  # so few searches don't show it
    }
    assert result["intervals"]["figures"] == expected
    assert result["intervals"]["people"] == 16
    assert "intervals" not in task.score(features)


def test_pairs_of_templates_are_a_loop(tmp_path: Any) -> None:
    ijb = write_ijb(tmp_path)
    features = EmbeddingSet(vectors=ijb.features.astype(np.float32), names=ijb.names)
    task = ijbc(ijb.folder, other_sizes=True)
    result = task.score(features, draws=DRAWS)
    scores = template_scores(task.faces.templates(features), task.pairs.first, task.pairs.second)
    numbers = sorted(set(ijb.templates))
    subject = {t: (t - 3) // 5 % 16 for t in numbers}
    drawn: dict[str, list[float]] = {"tar_at_far_1e-2": [], "tar_at_far_1e-1": []}
    for times in times_of(16):
        weight = [times[subject[a]] * (1 if same else times[subject[b]]) for a, b, same in ijb.pairs]
        again, kind = (np.repeat(x, weight) for x in (scores, [bool(same) for *_, same in ijb.pairs]))
        for name, values in drawn.items():
            values.append(metrics.tar_at_far(again, kind, float(name.removeprefix("tar_at_far_"))).tar)
    assert result["intervals"]["figures"] == {name: interval_of(values) for name, values in drawn.items()}
    assert result["intervals"]["people"] == 16


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._TILE, "cpu", (16, 24))


def faces(count: int, noise: float, images: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    ids = rng.permutation(np.repeat(np.arange(count), rng.integers(2, images + 1, count)))
    vectors = rng.normal(size=(count, 8))[ids] + noise * rng.normal(size=(len(ids), 8))
    return unit_rows(vectors, range(len(ids))), ids


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("far", [0.0, 1e-3, 0.1])
def test_all_pairs_are_a_loop(far: float) -> None:
    vectors, ids = faces(25, 0.8)
    exact = vectors.astype(np.float64)
    masked = np.arange(len(ids)) % 3 == 0
    people = PersonDraws(25, DRAWS)
    everything = all_to_all(vectors, ids, far, device="cpu", draws=people)
    masks = one_to_other(vectors[masked], vectors[~masked], ids[masked], ids[~masked], far, device="cpu", draws=people)
    plain, bare = np.flatnonzero(~masked), np.flatnonzero(masked)
    for found, pairs in (
        (everything["drawn"], list(combinations(range(len(ids)), 2))),
        (masks["drawn"], [(i, j) for i in bare for j in plain]),
    ):
        i, j = np.array(pairs).T
        scores, same = np.einsum("pd,pd->p", exact[i], exact[j]), ids[i] == ids[j]
        for number, times in enumerate(times_of(25)):
            weight = [times[ids[a]] if ids[a] == ids[b] else times[ids[a]] * times[ids[b]] for a, b in pairs]
            assert found[number] == metrics.tar_at_far(np.repeat(scores, weight), np.repeat(same, weight), far).tar


@pytest.mark.usefixtures("small_tiles")
def test_all_sets_of_a_list_see_the_same_people() -> None:
    vectors, ids = faces(25, 0.8)
    masked = np.arange(len(ids)) % 3 == 0
    group = np.array(["oak", "elm"])[ids % 2]
    listed = MfrList([str(i) for i in range(len(ids))], ids, group, masked, far=0.05, mask_far=0.05)
    result = score_mfr(vectors, listed, device="cpu", draws=DRAWS)
    people = PersonDraws(25, DRAWS)
    apart = {name: all_to_all(vectors[rows], ids[rows], far, device="cpu", draws=people)["drawn"]
             for name, rows, far in listed.sets()}  # fmt: skip
    queries, gallery = listed.mask_set()
    both = vectors[queries], vectors[gallery], ids[queries], ids[gallery]
    apart["mask"] = one_to_other(*both, 0.05, device="cpu", draws=people)["drawn"]
    assert list(apart) == ["all", "elm", "oak", "mask"]
    drawn = {f"tar_{name}": values for name, values in apart.items()}
    drawn["ranking"] = 0.25 * apart["mask"] + 0.75 * apart["all"]
    expected = {name: interval_of(values.tolist()) for name, values in drawn.items()}
    assert result["intervals"]["figures"] == expected
    whole = score_mfr(vectors, listed, device="cpu")
    assert {key: value for key, value in result.items() if key != "intervals"} == whole


@pytest.mark.usefixtures("small_tiles")
def test_searches_among_distractors_are_a_loop() -> None:
    vectors, ids = faces(13, 0.9)
    one = np.flatnonzero(ids == 5)[1:]  # a person with one image is in no search
    vectors, ids = np.delete(vectors, one, axis=0), np.delete(ids, one)
    rng = np.random.default_rng(2)
    others = unit_rows(rng.normal(size=(150, 8)), range(150))
    counts = count_megaface(vectors, ids, others, far=1e-2, device="cpu")
    found = size_intervals(counts, 150, PersonDraws(12, DRAWS))
    exact = [rows.astype(np.float64) for rows in (vectors, others)]
    among, within = exact[0] @ exact[1].T, exact[0] @ exact[0].T
    drawn: dict[str, list[float]] = {name: [] for name in found}
    for drawn_times in times_of(12):
        times = [*drawn_times[:5], 0, *drawn_times[5:]]
        ranks = [
            int((among[i] > within[i, j]).sum())
            for i in range(len(ids)) for j in range(len(ids)) if i != j and ids[i] == ids[j]
            for _ in range(times[ids[i]])
        ]  # fmt: skip
        for k in (1, 5, 10, 100):
            drawn[f"150 rank_{k}"].append(np.mean([rank < k for rank in ranks]))
        for mode in ("devkit", "full"):
            threshold = getattr(counts, mode).threshold
            accepted = [
                within[i, j] > threshold
                for i, j in combinations(range(len(ids)), 2) if ids[i] == ids[j] for _ in range(times[ids[i]])
            ]  # fmt: skip
            drawn[f"150 tpr_{mode}"].append(np.mean(accepted))
    assert found == {name: interval_of(values) for name, values in drawn.items()}


def test_people_that_fail_as_a_whole_make_the_interval_wide() -> None:
    """Sixty people of ten searches each; of twelve all fail. The deviation is that of sixty trials, not of 600."""
    people, each, failing = 60, 10, 12
    owner = np.repeat(np.arange(people), each)
    ranks = np.where(owner < failing, 9, 1)
    rate = HeldRates(owner, people, {"rank_1": (ranks == 1, np.ones(len(owner)))})
    drawn = PersonDraws(people, 2000).measured(rate)[:, 0]
    assert np.std(drawn) == pytest.approx(np.sqrt(0.2 * 0.8 / people), rel=0.1)
    found, plain = quantiles(drawn), wilson(failing * each, len(owner))
    assert found.high - found.low > 2.5 * (plain.high - plain.low)


def test_intervals_cover_the_rate_of_all_people() -> None:
    """TPIR at FPIR 0.1 of a population whose people differ: of 120 samples of 40 + 40 people 95 % should cover it."""
    rng = np.random.default_rng(11)

    def sample(people: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        own = rng.normal(1.5, 1, people)[:, None] + 0.3 * rng.normal(size=(people, 6))
        highest = rng.normal(0, 1, people)[:, None] + 0.3 * rng.normal(size=(people, 6))
        return own.ravel(), highest.ravel(), np.repeat(np.arange(people), 6)

    own, highest, owner = sample(40_000)
    truth = np.mean(own > np.quantile(highest, 0.9))
    covered = 0
    for _ in range(120):
        own, highest, owner = sample(40)
        rate = DrawnRate(own, owner, highest, owner + 40)
        strangers = np.bincount(owner + 40, minlength=80)
        measure = lambda times: rate(times, allowed([0.1], int(times @ strangers)))  # noqa: B023, E731
        found = quantiles(PersonDraws(80, 200).measured(measure)[:, 0])
        covered += found.low <= truth <= found.high
    assert covered >= 102  # 85 %: of few people bootstraps are somewhat too sure


def test_intervals_of_all_pairs_cover_where_wilson_does_not() -> None:
    """Populations of 60 people, some harder than others; the threshold is of these very people, too."""
    rng = np.random.default_rng(1)

    def tar(people: int, draws: PersonDraws | None = None) -> dict[str, Any]:
        ids = np.repeat(np.arange(people), 4)
        spread = rng.uniform(0.4, 1.6, people)[ids, None]
        vectors = rng.normal(size=(people, 12))[ids] + spread * rng.normal(size=(len(ids), 12))
        return all_to_all(unit_rows(vectors, range(len(ids))), ids, 1e-2, device="cpu", draws=draws)

    truth, covered, independent = tar(1500)["tar"], 0, 0
    for _ in range(50):
        found = tar(60, PersonDraws(60, 100))
        drawn = quantiles(found["drawn"])
        plain = wilson(round((1 - found["tar"]) * found["num_same"]), found["num_same"])
        covered += drawn.low <= truth <= drawn.high
        independent += plain.low <= truth <= plain.high
    assert covered >= 43
    assert independent <= 40


def test_rates_of_groups_are_those_of_repeated_pairs() -> None:
    """Two sets, each with people 0 .. 5 of its own; a person of the first is never one of the second."""
    rng = np.random.default_rng(3)
    pairs: list[tuple[int, int, str, str, bool, float]] = []
    sets: list[PairSet] = []
    for offset, groups in ((0, ("ash", "elm")), (6, ("oak", "elm"))):
        chosen = [(a, b) for a, b in combinations(range(18), 2) if a // 3 == b // 3 or (a + b) % 3 == 0]
        same = np.array([a // 3 == b // 3 for a, b in chosen])
        scores = np.where(same, 0.6, 0.3) + rng.normal(0, 0.3, len(chosen)).round(1)
        names = [f"person{image // 3}_{image % 3:04}.png" for image in range(18)]
        first, second = np.array(chosen).T
        fold = np.zeros(len(chosen), np.int64)
        sets.append(PairSet("pairs", names, lambda number: np.zeros(0, np.uint8), first, second, same, fold))
        for (a, b), is_same, score in zip(chosen, same.tolist(), scores.tolist(), strict=True):
            group_a, group_b = (groups[image // 3 % 2] for image in (a, b))
            pairs.append((offset + a // 3, offset + b // 3, group_a, group_b, is_same, score))
    _, _, group_a, group_b, same, scores = (list(column) for column in zip(*pairs, strict=True))
    within = WithinGroups(scores, same, group_a, group_b, 0.5)
    found = group_intervals(within, np.array(same), sets, DRAWS)

    drawn: dict[str, list[float]] = {}
    for times in times_of(12):
        errors = {(rate, group): [0, 0] for rate in ("fmr", "fnmr") for group in ("ash", "elm", "oak")}
        for a, b, x, y, is_same, score in pairs:
            if x == y:
                weight = times[a] if is_same else times[a] * times[b]
                count = errors["fnmr" if is_same else "fmr", x]
                count[0] += weight * ((score <= 0.5) if is_same else (score > 0.5))
                count[1] += weight
        rates = {key: wrong / trials if trials else np.nan for key, (wrong, trials) in errors.items()}
        for (rate, group), value in rates.items():
            drawn.setdefault(f"{rate}_{group}", []).append(value)
        there = [g for g in ("ash", "elm", "oak") if not np.isnan(rates["fmr", g] + rates["fnmr", g])]
        values = [[rates[rate, g] for g in there] for rate in ("fmr", "fnmr")]
        gap = sum(0.5 * (max(each) - min(each)) for each in values) if len(there) > 1 else np.nan
        drawn.setdefault("fairness_discrepancy_rate", []).append(1 - gap)
    figures = found["figures"]
    assert {name: figures[name] for name in drawn} == {name: interval_of(values) for name, values in drawn.items()}
    assert figures.keys() == {*drawn, "inequity_rate", "garbe"}
    assert found["held"] == list(figures)
    assert (found["people"], found["draws"]) == (12, DRAWS)
