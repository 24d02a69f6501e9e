"""Curves and histograms of several models, drawn with matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from faceprint.evaluation.page.series import series_figures
from faceprint.evaluation.page.style import (
    COLOURS,
    MAX_LINES,
    STYLES,
    WIDTH,
    Drawn,
    colour_of,
    finish,
    lowest,
    plain_legend,
)
from faceprint.evaluation.page.tables import Comparison
from faceprint.evaluation.result import Curve, Histogram
from faceprint.files import write_whole
from faceprint.plot_extra import check_plotting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """`name` for a file, `title` and `note` for people, and the picture in the two forms."""

    name: str
    title: str
    svg: bytes
    png: bytes
    note: str = ""


def pictures(comparison: Comparison) -> list[Picture]:
    """ROC, DET, CMC, open-set and error-versus-discard curves of all models, a picture a set; histograms, one a model.

    Then rates by group, by strength of a degradation and by years, of all models.

    Raises `UserError` where matplotlib is not installed.
    """
    check_plotting()
    with _settings():
        return [_rendered(f"{number:02}_{drawn.kind}", drawn) for number, drawn in enumerate(_all(comparison), 1)]


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


def _all(comparison: Comparison) -> Iterator[Drawn]:
    yield from _curve_figures(comparison)
    yield from series_figures(comparison)
    yield from _histogram_figures(comparison)


def _curve_figures(comparison: Comparison) -> Iterator[Drawn]:
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
            yield Drawn(kind, f"{drawing.title}, {title}", _curve_figure(drawing, of_set))


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

    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    axes = figure.subplots()
    drawing.scale(axes, [curve for _, _, curve in lines])
    left = axes.get_xlim()[0]
    for number, _, curve in lines:
        # Zero has no place on a logarithmic axis: it is drawn on its edge.
        xs = np.maximum(curve.x, left)
        colour, style = colour_of(number), STYLES[number // len(COLOURS) % len(STYLES)]
        axes.plot(xs, curve.y, color=colour, linestyle=style, linewidth=1.8, drawstyle="steps-post")
    plain_legend(axes, axes.get_lines(), [name for _, name, _ in lines])
    finish(axes, drawing.x, drawing.y)
    return figure


def _roc_scale(axes: Axes, curves: list[Curve]) -> None:
    left = lowest(x for curve in curves for x in curve.x)
    start = [y for curve in curves for x, y in zip(curve.x, curve.y, strict=True) if x >= left]
    low = max(0.0, np.floor(10 * min(start, default=0.0) - 0.5) / 10)
    axes.set(xscale="log", xlim=(left, 1), ylim=(low, 1 + 0.02 * (1 - low)))


def _det_scale(axes: Axes, curves: list[Curve]) -> None:
    left, bottom = lowest(x for curve in curves for x in curve.x), lowest(y for curve in curves for y in curve.y)
    axes.set(xscale="log", yscale="log", xlim=(left, 1), ylim=(bottom, 1))


def _cmc_scale(axes: Axes, curves: list[Curve]) -> None:
    last, start = max(curve.x[-1] for curve in curves), min(curve.y[0] for curve in curves)
    low = max(0.0, np.floor(10 * start - 0.5) / 10)
    axes.set(xscale="log", xlim=(1, max(last, 2)), ylim=(low, 1 + 0.02 * (1 - low)))


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


def _histogram_figures(comparison: Comparison) -> Iterator[Drawn]:
    for name, result in zip(comparison.names, comparison.results, strict=True):
        for title in dict.fromkeys(bins.set for bins in result.histograms):
            of_set = [bins for bins in result.histograms if bins.set == title]
            yield Drawn("scores", f"Scores, {title}: {name}", _histogram_figure(of_set))


def _histogram_figure(parts: list[Histogram]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axes = figure.subplots()
    for number, bins in enumerate(parts):
        edges, total = np.array(bins.edges), max(sum(bins.counts), 1)
        colour = colour_of(number)
        axes.stairs(np.array(bins.counts) / (total * np.diff(edges)), edges, color=colour, fill=True, alpha=0.4)
    labels = [f"{bins.label}: {sum(bins.counts):,}" for bins in parts]
    plain_legend(axes, axes.patches, labels)
    finish(axes, "score: cosine of the two embeddings", "density")
    return figure


def _rendered(name: str, drawn: Drawn) -> Picture:
    svg, png = io.BytesIO(), io.BytesIO()
    drawn.figure.savefig(svg, format="svg", metadata={"Date": None})
    drawn.figure.savefig(png, format="png", dpi=150)
    return Picture(name, drawn.title, svg.getvalue(), png.getvalue(), drawn.note)
