"""A picture of what the layers of a network with SN take."""

from __future__ import annotations

from pathlib import Path

from faceprint.models.switch_norm import STATISTICS
from faceprint.plot_extra import check_plotting, write_figure
from faceprint.training.harden import LayerShares

COLOURS = ("#009e73", "#e69f00", "#0072b2")
"""Of IN, LN and BN; told apart by colour-blind eyes too."""


def plot_shares(layers: list[LayerShares], path: Path) -> None:
    """Write a PNG with the shares of IN, LN and BN in each SN layer, for the mean above and the variance below."""
    check_plotting()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.0, 0.16 * len(layers) + 2), 4.6), layout="constrained")
    numbers = range(1, len(layers) + 1)
    for axes, title, rows in zip(
        figure.subplots(2, 1, sharex=True),
        ("mean", "variance"),
        ([layer.mean for layer in layers], [layer.var for layer in layers]),
        strict=True,
    ):
        below = [0.0] * len(layers)
        for statistic, values, colour in zip(STATISTICS, zip(*rows, strict=True), COLOURS, strict=True):
            axes.bar(numbers, values, bottom=below, width=1.0, color=colour, label=statistic.upper())
            below = [low + value for low, value in zip(below, values, strict=True)]
        axes.set_ylabel(f"share of the {title}")
        axes.set_ylim(0, 1)
        axes.set_xlim(0.5, len(layers) + 0.5)
    figure.axes[0].legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.axes[1].set_xlabel("layer, from the image on")
    write_figure(figure, path)
