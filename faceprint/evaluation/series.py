"""What the analyses found from group to group, from strength to strength and from year to year, for pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from faceprint.evaluation.figures import (
    GROUP_RATES,
    age_band,
    drawn_intervals,
    error_rate,
    far_text,
    robustness_rates,
    years_text,
)
from faceprint.evaluation.result import Interval, Point, Series

Result = Mapping[str, Any]


def series(result: Result, title: str) -> Iterator[Series]:
    """Those of an analysis's own `result`, none of another protocol's; `title` is the test set as papers name it."""
    if result["protocol"] in _BY_ANALYSIS:
        yield from _BY_ANALYSIS[result["protocol"]](result, f"{title}, {_operating_point(result)}")


def _operating_point(result: Result) -> str:
    """What the threshold is, by what models of one picture have in common."""
    far = result["far"]
    return f"threshold {result['threshold']:.4f}" if far is None else f"threshold of FAR={far_text(far)}"


def _fairness(result: Result, title: str) -> Iterator[Series]:
    drawn = drawn_intervals(result)
    for measure, (errors, trials) in GROUP_RATES.items():
        points = [
            _error_point(name, group[errors], group[trials], drawn.get(f"{measure.lower()}_{name}"))
            for name, group in result["groups"].items()
            if group[trials]
        ]
        if points:
            far = result["far"] if measure == "FMR" else None
            yield Series(set=title, kind="group", axis="group", measure=measure, reference=far, points=points)


def _error_point(at: str, errors: int, trials: int, interval: Interval | None) -> Point:
    rate = error_rate("", "", errors, trials, interval=interval)
    return Point(at=at, value=rate.value, interval=rate.interval)


def _ageing(result: Result, title: str) -> Iterator[Series]:
    points = [
        Point(at=years_text(row), value=row["fnmr"], interval=age_band(result, row))
        for row in result["bins"]
        if row["mated"]
    ]
    if points:
        yield Series(set=title, kind="years", axis="years between the images", measure="FNMR", points=points)


def _robustness(result: Result, title: str) -> Iterator[Series]:
    """Each begins with the images as they are."""
    for sweep in dict.fromkeys(map(_sweep, result["rows"])):
        found = [(f"{row['strength']:g}", row) for row in result["rows"] if _sweep(row) == sweep]
        axis, line = sweep
        for key, measure in robustness_rates(result).items():
            points = [Point(at=at, value=row[key]) for at, row in (("none", result["clean"]), *found)]
            yield Series(set=title, kind="strength", axis=axis, measure=measure, line=line, points=points)


def _sweep(row: Result) -> tuple[str, str]:
    """The axis and the line that a row belongs to."""
    which = {"second": "second image degraded", "both": "both images degraded"}[row["degraded"]]
    return f"{row['degradation']}, {row['unit']}", which


_BY_ANALYSIS: dict[str, Callable[[Result, str], Iterator[Series]]] = {
    "fairness": _fairness,
    "ageing": _ageing,
    "robustness": _robustness,
}
