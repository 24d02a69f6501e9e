"""What all pictures of the page have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from faceprint.evaluation.report import DIFFERENT_COLOUR, INK, SAME_COLOUR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (SAME_COLOUR, DIFFERENT_COLOUR, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
"""Okabe and Ito's palette, in which all are told apart with any kind of colour vision; then again, dashed."""
STYLES = ("-", "--", ":", "-.")
WIDTH = 5.2
"""Inches. Letters of 8 to 9 points can be read where two pictures stand side by side."""
MAX_LINES = len(COLOURS) * len(STYLES)


@dataclass(frozen=True, eq=False)
class Drawn:
    """`kind` for the name of a file, `title` and `note` for people, and the picture."""

    kind: str
    title: str
    figure: Figure
    note: str = ""


def colour_of(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def plain_legend(axes: Axes | Figure, handles: Sequence[Any], labels: list[str], **place: Any) -> None:
    for text in axes.legend(handles, labels, frameon=False, fontsize=8, labelcolor=INK, **place).get_texts():
        text.set_parse_math(False)  # a name is no formula


def finish(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, color=INK, parse_math=False)
    axes.set_ylabel(y, color=INK, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)


def lowest(values: Iterable[float]) -> float:
    """Half of the smallest number above zero, at least 1e-12: where a logarithmic axis begins."""
    return max(min((value for value in values if value > 0), default=0.1) / 2, 1e-12)
