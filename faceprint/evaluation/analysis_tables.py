"""The analyses as people read them: rows of tables, and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceprint.evaluation.figures import years_text
from faceprint.plot_extra import check_plotting, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = tuple[list[str], list[list[str]]]
Result = Mapping[str, Any]


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.3f} %"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _band(interval: Result | None, text: Callable[[float], str]) -> str:
    """Nothing where it has no width, which says nothing."""
    if interval is None or interval["low"] == interval["high"]:
        return ""
    return f"{text(interval['low'])} … {text(interval['high'])}"


def fairness_rows(result: Result) -> Rows:
    """A row a group, then the summaries; behind each rate its interval, where people were drawn for them."""
    drawn = result.get("intervals", {}).get("figures")

    def band(name: str, text: Callable[[float], str] = _rate) -> list[str]:
        return [] if drawn is None else [_band(drawn.get(name), text)]

    rows = [
        [
            *(name, _rate(group["fmr"]), *band(f"fmr_{name}")),
            f"{group['false_matches']:,} of {group['non_mated']:,}",
            *(_rate(group["fnmr"]), *band(f"fnmr_{name}")),
            f"{group['false_non_matches']:,} of {group['mated']:,}",
        ]
        for name, group in result["groups"].items()
    ]
    columns = ["group", "FMR", *(["95 %"] if drawn else []), "false matches", "FNMR", *(["95 %"] if drawn else [])]
    for name, value in {**result["summary"], **_rfw(result)}.items():
        row = [name.replace("_", " "), "a rate is 0" if value is None else _number(value), *band(name, _number)]
        rows.append([*row, *[""] * (len(columns) + 1 - len(row))])
    return [*columns, "false non-matches"], rows


def quality_rows(result: Result) -> Rows:
    """A row a discarded fraction, then the partial areas."""
    rows = [[f"{100 * float(share):.0f} %", _rate(fnmr)] for share, fnmr in result["fnmr"].items()]
    rows += [[f"area up to {limit}", f"{area:.6f}"] for limit, area in result["partial_area"].items()]
    return ["discarded", "FNMR"], rows


def robustness_rows(result: Result) -> Rows:
    """A row a strength, and whether one image of a pair was degraded or both."""
    measures = ("accuracy", "tar", "fmr", "fnmr")
    rows = [["none", "", *(_rate(result["clean"][name]) for name in measures)]]
    rows += [
        [
            f"{row['degradation']} {row['strength']:g} {row['unit']}",
            row["degraded"],
            *(_rate(row[name]) for name in measures),
        ]
        for row in result["rows"]
    ]
    return ["degradation", "of a pair", "accuracy", f"TAR@FAR={result['far']:g}", "FMR", "FNMR"], rows


def ageing_rows(result: Result) -> Rows:
    """A row a bin of years."""
    rows = [
        [
            years_text(row),
            _rate(row["fnmr"]),
            "" if row["low"] is None else f"{_rate(row['low'])} … {_rate(row['high'])}",
            f"{row['false_non_matches']:,} of {row['mated']:,}",
            f"{row['subjects']:,}",
        ]
        for row in result["bins"]
    ]
    low, high = (f"{100 * share:g}" for share in result["band"])
    return ["years apart", "FNMR", f"{low} to {high} %", "false non-matches", "people"], rows


TABLES: dict[str, Callable[[Result], Rows]] = {
    "fairness": fairness_rows,
    "quality": quality_rows,
    "robustness": robustness_rows,
    "ageing": ageing_rows,
}
"""Name of an analysis -> headings and rows of its result."""


def plot_analysis(result: Result, path: Path) -> None:
    """Write the result as a PNG, whole or not at all. Raises `UserError` without matplotlib, or an unwritable path."""
    check_plotting()
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(row["degradation"] for row in result.get("rows", []))) or [""]
    figure = Figure(figsize=(max(6.0, 3.4 * len(kinds)), 4.0), layout="constrained")
    axes = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    for one, kind in zip(axes, kinds, strict=True):
        _PLOTS[result["protocol"]](one, result, kind)
        one.spines[["top", "right"]].set_visible(False)
        one.grid(visible=True, color="#dddddd", linewidth=0.7)
    figure.suptitle(f"{Path(result['model']).name}: {result['protocol']}", x=0.01, ha="left", parse_math=False)
    write_figure(figure, path, dpi=150)


def _plot_groups(axes: Axes, result: Result, _: str) -> None:
    for name, group in result["groups"].items():
        if group["fmr"] is not None and group["fnmr"] is not None:
            axes.plot(100 * group["fmr"], 100 * group["fnmr"], "o")
            axes.annotate(
                name, (100 * group["fmr"], 100 * group["fnmr"]), (4, 4), textcoords="offset points", parse_math=False
            )
    axes.set(xlabel="FMR within the group, %", ylabel="FNMR, %")


def _plot_discard(axes: Axes, result: Result, _: str) -> None:
    axes.step([100 * float(x) for x in result["fnmr"]], [100 * y for y in result["fnmr"].values()], where="post")
    axes.set(xlabel="pairs discarded, %", ylabel="FNMR of the rest, %")


def _plot_sweep(axes: Axes, result: Result, kind: str) -> None:
    for which in ("second", "both"):
        rows = [row for row in result["rows"] if (row["degradation"], row["degraded"]) == (kind, which)]
        places = range(1 + len(rows))
        axes.plot(places, [100 * row["tar"] for row in (result["clean"], *rows)], "o-", label=f"{which} degraded")
        axes.set_xticks(list(places), ["none", *(f"{row['strength']:g}" for row in rows)])
        axes.set(xlabel=f"{kind}, {rows[0]['unit']}", ylabel=f"TAR@FAR={result['far']:g}, %")
    axes.legend(frameon=False)


def _plot_years(axes: Axes, result: Result, _: str) -> None:
    rows = [row for row in result["bins"] if row["fnmr"] is not None]
    places = range(len(rows))
    axes.fill_between(places, [100 * row["low"] for row in rows], [100 * row["high"] for row in rows], alpha=0.25)
    axes.plot(places, [100 * row["fnmr"] for row in rows], "o-")
    axes.set_xticks(list(places), [years_text(row) for row in rows])
    axes.set(xlabel="years apart", ylabel="FNMR, %")


_PLOTS: dict[str, Callable[[Axes, Result, str], None]] = {
    "fairness": _plot_groups,
    "quality": _plot_discard,
    "robustness": _plot_sweep,
    "ageing": _plot_years,
}


def _rfw(result: Result) -> dict[str, Any]:
    accuracy = result.get("accuracy")
    if accuracy is None:
        return {}
    groups = {f"accuracy of {name}": value for name, value in accuracy["by_group"].items()}
    return {
        **groups,
        **{f"accuracy {key}": accuracy[key] for key in ("mean", "std_between_groups", "skewed_error_ratio")},
    }
