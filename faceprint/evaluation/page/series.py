"""Rates by group of people, by strength of a degradation and by years, of several models, drawn with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from faceprint.evaluation.page.style import MAX_LINES, STYLES, WIDTH, Drawn, colour_of, finish, lowest, plain_legend
from faceprint.evaluation.page.tables import Comparison, interval_method
from faceprint.evaluation.report import INK
from faceprint.evaluation.result import Point, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = Sequence[float]

MARKERS = "osD^v<>"
MAX_PLACES = 60
"""Groups, strengths or spans of years that one picture shows."""
MAX_PANELS = 8
MAX_LABEL = 40
TITLES = {"group": "Errors by group", "strength": "Robustness", "years": "Ageing"}


@dataclass(frozen=True)
class Line:
    """A series of the model `name`, whose place among all is `number`."""

    number: int
    name: str
    series: Series


def series_figures(comparison: Comparison) -> Iterator[Drawn]:
    """A picture for each set and axis, with a panel for each measure and a line for each model."""
    lines = [
        Line(number, name, each)
        for number, (name, result) in enumerate(zip(comparison.names, comparison.results, strict=True))
        for each in result.series
    ]
    for key in dict.fromkeys(map(_picture_of, lines)):
        yield _drawn([line for line in lines if _picture_of(line) == key])


def _picture_of(line: Line) -> tuple[str, str, str]:
    return line.series.kind, line.series.set, line.series.axis


def _drawn(lines: list[Line]) -> Drawn:
    kind, of, axis = _picture_of(lines[0])
    places = list(dict.fromkeys(point.at for line in lines for point in line.series.points))
    title = ", ".join([TITLES[kind], *([axis] if kind == "strength" else []), of])
    return Drawn(kind, title, _figure(lines, places[:MAX_PLACES]), _note(lines, len(places)))


def _note(lines: list[Line], num_places: int) -> str:
    points = list(chain.from_iterable(line.series.points for line in lines))
    methods = dict.fromkeys(interval_method(point.interval) for point in points if point.interval)
    said = [f"Bars: {'; '.join(methods)}."] if methods else []
    if any(point.value == 0 for line in lines if _is_log(line.series.measure) for point in line.series.points):
        said.append("Hollow, on the edge: no error seen.")
    if any(line.series.reference is not None for line in lines):
        said.append("Dashed: the rate over all that the threshold was chosen for.")
    shown = {"places": (MAX_PLACES, num_places), "measures": (MAX_PANELS, len(_measures(lines)))}
    said += [
        f"The first {most} of {count:,} {what} are shown." for what, (most, count) in shown.items() if count > most
    ]
    return " ".join(said)


def _figure(lines: list[Line], places: list[str]) -> Figure:
    from matplotlib.figure import Figure

    measures = _measures(lines)[:MAX_PANELS]
    models = list(dict.fromkeys(line.number for line in lines))[:MAX_LINES]
    by_group = lines[0].series.kind == "group"
    columns = min(2, len(measures))
    rows = -(-len(measures) // columns)
    height = max(1.8, 0.7 + (0.12 + 0.13 * len(models)) * len(places)) if by_group else 0.1 + 2.2 * rows
    figure = Figure(figsize=(WIDTH, height + 0.18 * len(models)), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=by_group)
    for axes, measure in zip(panels.flat, measures, strict=False):
        shown = [line for line in lines if line.series.measure == measure and line.number in models]
        (_draw_groups if by_group else _draw_steps)(axes, shown, places, models)
    for axes in panels.flat[len(measures) :]:
        axes.set_visible(False)
    _legend(figure, lines, models)
    return figure


def _draw_groups(axes: Axes, lines: list[Line], places: list[str], models: list[int]) -> None:
    """Groups from top to bottom, since names are long, with the models side by side at each."""
    measure, edge = lines[0].series.measure, _edge(lines)
    for line in lines:
        points = _points(line, places)
        ys = [places.index(point.at) + _aside(line, models, 0.7) for point in points]
        xs = [max(point.value, edge) for point in points]
        _bars(axes, xs, ys, points, edge, line.number, along="x")
        _marks(axes, xs, ys, points, edge, line.number)
    for reference in dict.fromkeys(line.series.reference for line in lines):
        if reference is not None:
            axes.axvline(reference, color=INK, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(places)), [_short(place, 30) for place in places], parse_math=False)
    axes.set_ylim(len(places) - 0.5, -0.5)
    if edge:
        axes.set(xscale="log", xlim=(edge, _top(lines)))
        axes.xaxis.set_minor_formatter("")
    finish(axes, _short(measure), "")


def _draw_steps(axes: Axes, lines: list[Line], places: list[str], models: list[int]) -> None:
    """Places from left to right, mild to strong or early to late, joined by a line for each series."""
    measure, edge, names = lines[0].series.measure, _edge(lines), _line_names(lines)
    for line in lines:
        points = _points(line, places)
        xs = [places.index(point.at) + _aside(line, models, 0.12) for point in points]
        ys = [max(point.value, edge) for point in points]
        axes.plot(xs, ys, color=colour_of(line.number), linestyle=STYLES[names.index(line.series.line) % len(STYLES)])
        _bars(axes, xs, ys, points, edge, line.number, along="y")
        _marks(axes, xs, ys, points, edge, line.number)
    axes.set_xticks(range(len(places)), [_short(place, 30) for place in places], parse_math=False)
    if edge:
        axes.set(yscale="log", ylim=(edge, _top(lines)))
        axes.yaxis.set_minor_formatter("")
    axes.set_title(_short(measure).replace(", ", "\n", 1), loc="left", fontsize=9, color=INK, parse_math=False)
    finish(axes, _short(lines[0].series.axis), "")


def _points(line: Line, places: list[str]) -> list[Point]:
    return [point for point in line.series.points if point.at in places]


def _bars(axes: Axes, xs: Numbers, ys: Numbers, points: list[Point], edge: float, number: int, *, along: str) -> None:
    """The intervals of those points that have one."""
    for x, y, point in zip(xs, ys, points, strict=True):
        if point.interval is not None:
            ends = [min(max(end, edge), 1.0) for end in (point.interval.low, point.interval.high)]
            where = (ends, [y, y]) if along == "x" else ([x, x], ends)
            axes.plot(*where, color=colour_of(number), linewidth=1.2, solid_capstyle="butt")


def _marks(axes: Axes, xs: Numbers, ys: Numbers, points: list[Point], edge: float, number: int) -> None:
    """Hollow where a value lies below the `edge` on which it is drawn."""
    colour, marker = colour_of(number), _marker(number)
    for x, y, point in zip(xs, ys, points, strict=True):
        inside = "white" if point.value < edge else colour
        axes.plot(x, y, marker, markersize=5, markeredgecolor=colour, markerfacecolor=inside, clip_on=False, zorder=3)


def _edge(lines: list[Line]) -> float:
    """Where the axis of rates begins: 0, or the power of ten where a logarithmic one does."""
    if not _is_log(lines[0].series.measure):
        return 0.0
    return 10 ** math.floor(math.log10(lowest(_extent(lines))))


def _top(lines: list[Line]) -> float:
    """The power of ten where a logarithmic axis ends, above `_edge`."""
    return 10 ** math.ceil(math.log10(max(*_extent(lines), 2 * _edge(lines))))


def _extent(lines: list[Line]) -> list[float]:
    points = [point for line in lines for point in line.series.points]
    ends = [min(point.interval.high, 1.0) for point in points if point.interval is not None]
    return [*(point.value for point in points), *ends, *(line.series.reference or 0.0 for line in lines)]


def _aside(line: Line, models: list[int], room: float) -> float:
    """How far from its place a model stands, that the intervals of all can be seen."""
    return room * ((models.index(line.number) + 0.5) / len(models) - 0.5)


def _is_log(measure: str) -> bool:
    """False match rates differ by factors."""
    return measure.startswith("FMR")


def _measures(lines: list[Line]) -> list[str]:
    return list(dict.fromkeys(line.series.measure for line in lines))


def _line_names(lines: list[Line]) -> list[str]:
    return list(dict.fromkeys(line.series.line for line in lines))


def _legend(figure: Figure, lines: list[Line], models: list[int]) -> None:
    """Models by colour and mark, and the lines of each by style, where there are several."""
    from matplotlib.lines import Line2D

    names = {line.number: line.name for line in lines}
    styles = [name for name in _line_names(lines) if name]
    handles = [
        *(Line2D([], [], linestyle="", marker=_marker(number), color=colour_of(number)) for number in models),
        *(Line2D([], [], linestyle=STYLES[at % len(STYLES)], color=INK) for at in range(len(styles))),
    ]
    labels = [*(names[number] for number in models), *styles]
    columns = 1 if max(map(len, labels)) > MAX_LABEL else 2
    plain_legend(figure, handles, labels, loc="outside upper left", ncols=columns)


def _marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]


def _short(text: str, length: int = MAX_LABEL) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
