"""Rates by group, strength and years: what the analyses found is what the pictures show."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from faceprint.errors import UserError
from faceprint.evaluation.describe import Scored, describe
from faceprint.evaluation.page import compare, write_page, write_tables
from faceprint.evaluation.page.html import best
from faceprint.evaluation.page.series import MAX_PLACES, series_figures
from faceprint.evaluation.page.style import COLOURS, Drawn
from faceprint.evaluation.result import Figure, Interval, Point, Result, Series, read_result

HOSTILE = r"$\frac$ <script>1</script>"
GROUPS = {"ash": (4, 1000, 30, 300), "birch": (0, 900, 45, 300), HOSTILE: (20, 1000, 0, 0)}
"""Group -> false matches, non-mated, false non-matches and mated pairs."""


def fairness(model: str, groups: dict[str, tuple[int, int, int, int]] = GROUPS, far: float | None = 0.01) -> Result:
    found = {
        name: {
            "fmr": a / b if b else None,
            "fnmr": c / d if d else None,
            "fmr_over_far": None,
            "false_matches": a,
            "non_mated": b,
            "false_non_matches": c,
            "mated": d,
        }
        for name, (a, b, c, d) in groups.items()
    }
    summary = {"fairness_discrepancy_rate": 0.98, "inequity_rate": None, "garbe": 0.2, "alpha": 0.5}
    result = {"protocol": "fairness", "model": model, "threshold": 0.25, "far": far}
    return describe(Scored({**result, "groups": found, "summary": summary}), data="sets/groups.csv")


def ageing(model: str) -> Result:
    edges = [(0.0, 2.0, 100, 10), (2.0, 4.0, 0, 0), (4.0, None, 50, 20)]
    bins = [
        {
            "from_years": start,
            "to_years": end,
            "mated": mated,
            "subjects": 5,
            "false_non_matches": missed,
            **({"fnmr": missed / mated, "low": 0.05, "high": 0.5} if mated else dict.fromkeys(("fnmr", "low", "high"))),
        }
        for start, end, mated, missed in edges
    ]
    result = {"protocol": "ageing", "model": model, "threshold": 0.25, "far": 0.01, "people": "folders"}
    return describe(Scored({**result, "band": [0.01, 0.99], "draws": 7, "bins": bins}), data="years.csv")


def robustness(model: str, fmr: float = 0.001) -> Result:
    clean = {"accuracy": 0.99, "auc": 0.99, "tar": 0.9, "fmr": fmr, "fnmr": 0.1}
    rows = [
        {
            **clean,
            "degradation": kind,
            "strength": strength,
            "unit": "u",
            "degraded": which,
            "accuracy": 0.9 - 0.01 * at,
        }
        for at, (kind, strength, which) in enumerate(
            [
                ("jpeg", 50, "second"),
                ("jpeg", 50, "both"),
                ("jpeg", 5, "second"),
                ("jpeg", 5, "both"),
                ("blur", 1, "both"),
            ]
        )
    ]
    result = {"protocol": "robustness", "model": model, "threshold": 0.25, "far": 0.001, "seed": 0}
    return describe(Scored({**result, "clean": clean, "rows": rows}), data="lfw.bin")


def drawn(*results: Result) -> list[Drawn]:
    pytest.importorskip("matplotlib")
    return list(series_figures(compare(list(results))))


def marks(axes: Any, colour: str) -> list[tuple[float, float, bool]]:
    """(x, y, filled) of the marks of a colour."""
    found = [line for line in axes.get_lines() if line.get_marker() != "None" and line.get_markeredgecolor() == colour]
    return [(line.get_xdata()[0], line.get_ydata()[0], line.get_markerfacecolor() == colour) for line in found]


def bars(axes: Any, colour: str) -> list[tuple[float, float]]:
    """The ends of the horizontal bars of a colour."""
    lines = [line for line in axes.get_lines() if line.get_marker() == "None" and line.get_color() == colour]
    return [tuple(line.get_xdata()) for line in lines if line.get_ydata()[0] == line.get_ydata()[1]]


def wilson_ends(errors: int, trials: int) -> list[float]:
    """The roots of (p - r)^2 = z^2 p (1 - p) / n, found by halving."""
    rate, z = errors / trials, 1.959963984540054

    def gap(p: float) -> float:
        return (p - rate) ** 2 - z**2 * p * (1 - p) / trials

    def root(inside: float, outside: float) -> float:
        for _ in range(100):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if gap(middle) <= 0 else (inside, middle)
        return inside

    return [root(rate, 0), root(rate, 1)]


def test_groups_of_two_models() -> None:
    better = {name: (a // 2, b, c, d) for name, (a, b, c, d) in GROUPS.items()}
    (picture,) = drawn(fairness("first"), fairness("second", better))
    assert picture.title == "Errors by group, groups.csv, threshold of FAR=1e-2"
    assert "Wilson" in picture.note
    assert "Hollow, on the edge: no error seen." in picture.note
    fmr, fnmr = picture.figure.axes
    assert (fmr.get_xscale(), fnmr.get_xscale()) == ("log", "linear")
    assert [label.get_text() for label in fmr.get_yticklabels()] == list(GROUPS)
    edge, top = fmr.get_xlim()
    assert all(math.log10(end) == pytest.approx(round(math.log10(end))) for end in (edge, top))
    for number, groups in enumerate((GROUPS, better)):
        here = marks(fmr, COLOURS[number])
        assert [x for x, _, _ in here] == pytest.approx([a / b or edge for a, b, _, _ in groups.values()])
        assert [filled for _, _, filled in here] == [True, False, True]
        assert [round(y) for _, y, _ in here] == [0, 1, 2]
        missed = [(c, d) for _, _, c, d in groups.values() if d]
        assert [x for x, _, _ in marks(fnmr, COLOURS[number])] == pytest.approx([c / d for c, d in missed])
        for found, (c, d) in zip(bars(fnmr, COLOURS[number]), missed, strict=True):
            assert found == pytest.approx(wilson_ends(c, d), abs=1e-9)
    (dashed,) = [line for line in fmr.get_lines() if line.get_linestyle() == "--"]
    assert list(dashed.get_xdata()) == [0.01, 0.01]


def test_models_at_other_thresholds_have_another_picture() -> None:
    titles = [each.title for each in drawn(fairness("a"), fairness("a", far=0.001), fairness("b", far=None))]
    points = ("threshold of FAR=1e-2", "threshold of FAR=1e-3", "threshold 0.2500")
    assert titles == [f"Errors by group, groups.csv, {point}" for point in points]


def test_years() -> None:
    (picture,) = drawn(ageing("first"))
    assert picture.title == "Ageing, years.csv, threshold of FAR=1e-2"
    assert "98 %, 7 bootstrap draws of people (folders)" in picture.note
    (axes,) = picture.figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0 to 2", "4+"]
    assert [y for _, y, _ in marks(axes, COLOURS[0])] == [0.1, 0.4]


def test_strengths() -> None:
    pictures = drawn(robustness("first"), robustness("second", fmr=0.0))
    assert [each.title for each in pictures] == [
        "Robustness, jpeg, u, LFW, threshold of FAR=1e-3",
        "Robustness, blur, u, LFW, threshold of FAR=1e-3",
    ]
    panels = {axes.get_title(loc="left").replace("\n", ", "): axes for axes in pictures[0].figure.axes}
    accuracy, fmr = panels["accuracy"], panels["FMR, threshold of the clean images"]
    assert [label.get_text() for label in accuracy.get_xticklabels()] == ["none", "50", "5"]
    assert [y for _, y, _ in marks(accuracy, COLOURS[0])] == [0.99, 0.9, 0.88, 0.99, 0.89, 0.87]
    assert fmr.get_yscale() == "log"
    assert [filled for _, _, filled in marks(fmr, COLOURS[1])] == [False] * 6
    assert sum(axes.get_visible() for axes in pictures[0].figure.axes) == 4


def test_more_groups_than_a_picture_shows() -> None:
    many = {f"group {number}": (1, 100, 1, 100) for number in range(MAX_PLACES + 5)}
    (picture,) = drawn(fairness("first", many))
    assert f"The first {MAX_PLACES} of {MAX_PLACES + 5} places are shown." in picture.note
    assert len(picture.figure.axes[0].get_yticklabels()) == MAX_PLACES


def test_on_the_page_and_in_the_tables(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    from faceprint.evaluation.page.pictures import pictures, write_pictures

    comparison = compare([fairness("first"), ageing("first"), robustness("first"), fairness("second")])
    made = pictures(comparison)
    assert [each.name for each in made] == ["01_group", "02_years", "03_strength", "04_strength"]
    write_page(comparison, made, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/svg+xml") == 4
    for each in made:
        tags = [element.tag for element in ElementTree.fromstring(each.svg).iter()]
        assert not [tag for tag in tags if "script" in tag]
    assert "<script" not in page
    assert "Hollow, on the edge" in page
    written = write_pictures(made, png=tmp_path, svg=tmp_path)
    assert [path.name for path in written[:2]] == ["01_group.png", "01_group.svg"]
    write_tables(comparison, csv=tmp_path, latex=tmp_path)
    rows = list(csv.DictReader((tmp_path / "figures.csv").open()))
    ash = next(row for row in rows if (row["set"], row["figure"]) == ("groups.csv, ash", "FMR"))
    assert (ash["errors"], ash["trials"], float(ash["value"])) == ("4", "1000", 0.004)
    assert "groups.csv, birch & FNMR & 15.00" in (tmp_path / "figures.tex").read_text()


def test_summaries_are_compared_and_none_is_best() -> None:
    comparison = compare([fairness("first"), fairness("second")])
    assert comparison.columns == [("groups.csv", "fairness discrepancy rate"), ("groups.csv", "GARBE")]
    assert best(comparison) == [None, None]


def test_the_best_rate_of_errors_is_the_lowest() -> None:
    misses = {"first": 0.2, "second": 0.3}
    results = [
        fairness(name).model_copy(update={"figures": [Figure(name="FNIR at rank 1", value=value)]})
        for name, value in misses.items()
    ]
    assert best(compare(results)) == [0.2]


def test_a_page_without_figures_to_compare(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    write_page(compare([ageing("first")]), [], tmp_path / "page.html")
    assert 'id="comparison"' not in (tmp_path / "page.html").read_text()


def test_written_and_read_again(tmp_path: Path) -> None:
    for result in (fairness("first"), ageing("first"), robustness("first")):
        (tmp_path / "a.json").write_text(json.dumps(result.to_json()))
        assert read_result(tmp_path / "a.json").series == result.series != []


def test_intervals_beyond_all_rates_are_drawn_as_far_as_rates_go() -> None:
    wide = Interval(low=-1e308, high=1e308, method="?")
    hostile = [Series(kind="group", axis="a", measure="FMR", points=[Point(at="$", value=1e-300, interval=wide)])]
    (picture,) = drawn(fairness("first").model_copy(update={"series": hostile}))
    assert picture.figure.axes[0].get_xlim() == pytest.approx((1e-12, 1))
    picture.figure.savefig(io.BytesIO())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"ash"', '"birch"'), "a place is there twice"),
        (('"value": 0.004', '"value": 4'), "less than or equal to 1"),
        (('"value": 0.004', '"value": NaN'), "value"),
        (('"kind": "group"', '"kind": "shape"'), "kind"),
    ],
)
def test_hostile_series(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    text = json.dumps({**fairness("first").to_json(), "groups": None, "figures": []})
    changed = text.replace(change[0], change[1], 1)
    assert changed != text
    (tmp_path / "a.json").write_text(changed)
    with pytest.raises(UserError, match=re.escape(said)):
        read_result(tmp_path / "a.json")
