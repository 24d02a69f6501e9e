"""Intervals of an evaluation, and the comparison of two on the same pairs, as plain values for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprint.errors import UserError
from faceprint.evaluation import intervals
from faceprint.evaluation.fairness import SUMMARIES, WithinGroups, summaries
from faceprint.evaluation.pairs import PairSet
from faceprint.evaluation.people import people_of
from faceprint.evaluation.protocols import Evaluation

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def interval_result(evaluation: Evaluation, pairs: PairSet, draws: int, seed: int = 0) -> dict[str, Any]:
    """The 95 % interval of each figure of `evaluation`, by `draws` of the people of `pairs`, and how it was made."""
    people = people_of(pairs)
    found = intervals.intervals(
        _statistics(evaluation, pairs),
        people.number[pairs.first],
        people.number[pairs.second],
        pairs.same,
        draws=draws,
        seed=seed,
    )
    made = intervals.PersonDraws(people.count, draws, seed).said(people.rule)
    return {**made, "figures": {name: asdict(interval) for name, interval in found.items()}}


def group_intervals(
    within: WithinGroups, same: Bools, sets: Sequence[PairSet], draws: int, seed: int = 0
) -> dict[str, Any]:
    """The 95 % intervals, for JSON, of FMR and FNMR of each group and of `SUMMARIES`, at the threshold there is.

    The people are those of all `sets`, whose pairs `same` (P,) follow one another; no person is in two of them.
    """
    people = [people_of(each) for each in sets]
    before = np.cumsum([0, *(each.count for each in people)])
    first, second = (
        np.concatenate(
            [who.number[getattr(each, side)] + n for each, who, n in zip(sets, people, before[:-1], strict=True)]
        )[within.pairs]
        for side in ("first", "second")
    )
    once = same[within.pairs]
    drawn = intervals.PersonDraws(int(before[-1]), draws, seed)
    names = [f"{rate}_{group}" for rate in ("fmr", "fnmr") for group in within.groups]

    def statistic(times: Ints) -> Floats:
        fmr, fnmr = within.rates(times[first] * np.where(once, 1, times[second]))
        return np.array([*fmr, *fnmr, *_summaries(fmr, fnmr)])

    figures = intervals.drawn_intervals(drawn, [*names, *SUMMARIES], statistic)
    rule = "; ".join(dict.fromkeys(each.rule for each in people))
    return {**drawn.said(rule), "held": list(figures), "figures": figures}


def _summaries(fmr: Floats, fnmr: Floats) -> list[float]:
    """NaN where too few groups were drawn, or one without errors has no ratio."""
    if np.count_nonzero(np.isfinite(fmr) & np.isfinite(fnmr)) < 2:
        return [np.nan] * len(SUMMARIES)
    return [np.nan if value is None else value for value in summaries(fmr, fnmr).values()]


def compare_evaluations(a: Evaluation, b: Evaluation, pairs: PairSet, draws: int, seed: int = 0) -> dict[str, Any]:
    """B less A, both on `pairs`: each figure with interval and p-value, and McNemar's test of the decisions."""
    if len(a.scores) != len(b.scores) or len(a.scores) != len(pairs.same):
        raise UserError(f"both must have scored the same pairs, got {len(a.scores)} and {len(b.scores)}")
    people, of_a, of_b = people_of(pairs), _statistics(a, pairs), _statistics(b, pairs)
    first, second = people.number[pairs.first], people.number[pairs.second]
    found = intervals.compare(of_a, of_b, first, second, pairs.same, draws=draws, seed=seed)
    ones = np.ones(len(pairs.same))
    values = zip(of_a.names, of_a(ones).tolist(), of_b(ones).tolist(), strict=True)
    return {
        "a": a.result.get("model"),
        "b": b.result.get("model"),
        "num_pairs": len(pairs.same),
        "people": people.count,
        "people_rule": people.rule,
        "level": intervals.LEVEL,
        "draws": draws,
        "seed": seed,
        "differences": {name: {"a": x, "b": y, **asdict(found[name])} for name, x, y in values},
        "mcnemar": asdict(intervals.mcnemar(*(_right(one, pairs) for one in (a, b)))),
    }


def interval_rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value), for people, of the `intervals` in a result; nothing where there are none."""
    if (intervals := result.get("intervals")) is None:
        return []
    held = intervals.get("held", [])
    rows = [
        (f"{name.replace('_', ' ')}, 95 %", f"{row['low']:.5f} … {row['high']:.5f}" + _remarks(row, name in held))
        for name, row in intervals["figures"].items()
    ]
    return [
        *rows,
        ("", f"{intervals['draws']:,} draws of {intervals['people']:,} people ({intervals['people_rule']})"),
    ]


def _remarks(row: Mapping[str, Any], held: bool) -> str:
    if row["low"] == row["high"]:
        return "  (no width: no errors that draws could vary; it says nothing)"
    remarks = {
        "at the threshold of the whole set": held,
        f"{row['undefined']:,} draws had pairs or searches of one kind only": row["undefined"],
        f"{row['unreached']:,} draws need more scores than are kept, and count as 1": row["unreached"],
    }
    return "".join(f"  ({remark})" for remark, there in remarks.items() if there)


def _statistics(evaluation: Evaluation, pairs: PairSet) -> intervals.PairStatistics:
    fars = list(evaluation.result["tar_at_far"])
    return intervals.PairStatistics(evaluation.scores, pairs.same, pairs.fold, fars)


def _right(evaluation: Evaluation, pairs: PairSet) -> Any:
    return intervals.decided_rightly(evaluation.scores, pairs.same, pairs.fold, evaluation.result["threshold"])
