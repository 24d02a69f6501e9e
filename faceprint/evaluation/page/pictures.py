"""Curves and histograms of several models, drawn with matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from faceprint.evaluation.page.tables import Comparison
from faceprint.evaluation.report import DIFFERENT_COLOUR, INK, SAME_COLOUR
from faceprint.evaluation.result import Curve, Histogram
from faceprint.files import write_whole
from faceprint.plot_extra import check_plotting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (SAME_COLOUR, DIFFERENT_COLOUR, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
"""Okabe and Ito's palette, in which all are told apart with any kind of colour vision; then again, dashed."""
STYLES = ("-", "--", ":", "-.")
MAX_LINES = len(COLOURS) * len(STYLES)


@dataclass(frozen=True)
class Picture:
    """`name` for a file, `title` for people, and the picture in the two forms."""

    name: str
    title: str
    svg: bytes
    png: bytes


def pictures(comparison: Comparison) -> list[Picture]:
    """ROC, DET, CMC, open-set and error-versus-discard curves of all models, a picture a set; histograms, one a model.

    Raises `UserError` where matplotlib is not installed.
    """
    check_plotting()
    with _settings():
        return [_rendered(f"{number:02}_{kind}", title, figure) for number, (kind, title, figure) in _all(comparison)]


def write_pictures(drawn: list[Picture], *, png: Path | None = None, svg: Path | None = None) -> list[Path]:
    """Write each picture into the folders given; their paths."""
    wanted = [
        (folder / f"{picture.name}.{kind}", data)
        for picture in drawn
        for folder, kind, data in ((png, "png", picture.png), (svg, "svg", picture.svg))
        if folder is not None
    ]
    for path, data in wanted:
        write_whole(path, data)
    return [path for path, _ in wanted]


@contextmanager
def _settings() -> Generator[None]:
    """The same figures give the same bytes."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "faceprint", "font.size": 9.0}):
        yield


def _all(comparison: Comparison) -> Iterator[tuple[int, tuple[str, str, Figure]]]:
    yield from enumerate([*_curve_figures(comparison), *_histogram_figures(comparison)], 1)


def _curve_figures(comparison: Comparison) -> Iterator[tuple[str, str, Figure]]:
    curves = [
        (number, name, curve)
        for number, (name, result) in enumerate(zip(comparison.names, comparison.results, strict=True))
        for curve in result.curves
    ]
    for kind, drawing in DRAWINGS.items():
        wanted = [(number, name, as_kind(curve, kind)) for number, name, curve in curves]
        lines = [(number, name, curve) for number, name, curve in wanted if curve is not None and curve.x]
        for title in dict.fromkeys(curve.set for _, _, curve in lines):
            of_set = [line for line in lines if line[2].set == title][:MAX_LINES]
            yield kind, f"{drawing.title}, {title}", _curve_figure(drawing, of_set)


def as_kind(curve: Curve, kind: str) -> Curve | None:
    """`curve` where it is of this kind; the DET of a ROC, which has the same corners (FMR = FAR, FNMR = 1 - TAR)."""
    if curve.kind == "roc" and kind == "det":
        return curve.model_copy(update={"kind": "det", "y": [1 - tar for tar in curve.y]})
    return curve if curve.kind == kind else None


@dataclass(frozen=True)
class Drawing:
    """How a kind of curve is drawn."""

    title: str
    x: str
    y: str
    scale: Callable[[Axes, list[Curve]], None]


def _curve_figure(drawing: Drawing, lines: list[tuple[int, str, Curve]]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    drawing.scale(axes, [curve for _, _, curve in lines])
    left = axes.get_xlim()[0]
    for number, _, curve in lines:
        # Zero has no place on a logarithmic axis: it is drawn on its edge.
        xs = np.maximum(curve.x, left)
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number // len(COLOURS) % len(STYLES)]
        axes.plot(xs, curve.y, color=colour, linestyle=style, linewidth=1.8, drawstyle="steps-post")
    _legend(axes, axes.get_lines(), [name for _, name, _ in lines])
    _finish(axes, drawing.x, drawing.y)
    return figure


def _legend(axes: Axes, handles: Sequence[Any], labels: list[str]) -> None:
    for text in axes.legend(handles, labels, frameon=False, fontsize=8, labelcolor=INK).get_texts():
        text.set_parse_math(False)  # a name is no formula


def _finish(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)


def _lowest(values: list[list[float]]) -> float:
    """Half of the smallest number above zero, at least 1e-12: where a logarithmic axis begins."""
    found = [value for each in values for value in each if value > 0]
    return max(min(found, default=0.1) / 2, 1e-12)


def _roc_scale(axes: Axes, curves: list[Curve]) -> None:
    left = _lowest([curve.x for curve in curves])
    start = [y for curve in curves for x, y in zip(curve.x, curve.y, strict=True) if x >= left]
    low = max(0.0, np.floor(10 * min(start, default=0.0) - 0.5) / 10)
    axes.set(xscale="log", xlim=(left, 1), ylim=(low, 1 + 0.02 * (1 - low)))


def _det_scale(axes: Axes, curves: list[Curve]) -> None:
    left, bottom = _lowest([curve.x for curve in curves]), _lowest([curve.y for curve in curves])
    axes.set(xscale="log", yscale="log", xlim=(left, 1), ylim=(bottom, 1))


def _cmc_scale(axes: Axes, curves: list[Curve]) -> None:
    last = max(curve.x[-1] for curve in curves)
    axes.set(xscale="log", xlim=(1, max(last, 2)))


def _free_scale(axes: Axes, curves: list[Curve]) -> None:
    axes.set_xlim(0, max(max(curve.x) for curve in curves) or 1)


DRAWINGS = {
    "roc": Drawing("ROC", "FAR: different pairs accepted", "TAR: same pairs accepted", _roc_scale),
    "det": Drawing("DET", "FMR: different pairs accepted", "FNMR: same pairs rejected", _det_scale),
    "cmc": Drawing("CMC", "rank", "probes whose mate is at this rank or before", _cmc_scale),
    "identification_det": Drawing(
        "Open set", "FPIR: searches without mate that find somebody", "FNIR: searches that miss their mate", _det_scale
    ),
    "discard": Drawing("Error versus discard", "fraction discarded", "FNMR", _free_scale),
}


def _histogram_figures(comparison: Comparison) -> Iterator[tuple[str, str, Figure]]:
    for name, result in zip(comparison.names, comparison.results, strict=True):
        for title in dict.fromkeys(bins.set for bins in result.histograms):
            of_set = [bins for bins in result.histograms if bins.set == title]
            yield "scores", f"Scores, {title}: {name}", _histogram_figure(of_set)


def _histogram_figure(parts: list[Histogram]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    axes = figure.subplots()
    for number, bins in enumerate(parts):
        edges, total = np.array(bins.edges), max(sum(bins.counts), 1)
        colour = COLOURS[number % len(COLOURS)]
        axes.stairs(np.array(bins.counts) / (total * np.diff(edges)), edges, color=colour, fill=True, alpha=0.4)
    labels = [f"{bins.label}: {sum(bins.counts):,}" for bins in parts]
    _legend(axes, axes.patches, labels)
    _finish(axes, "score: cosine of the two embeddings", "density")
    return figure


def _rendered(name: str, title: str, figure: Figure) -> Picture:
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None})
    figure.savefig(png, format="png", dpi=150)
    return Picture(name, title, svg.getvalue(), png.getvalue())
