"""Pictures: a run's loss and accuracy over steps, and what the layers of a network with SN take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from faceprint.errors import UserError
from faceprint.models.switch_norm import STATISTICS
from faceprint.plot_extra import check_plotting, write_figure
from faceprint.training.harden import LayerShares
from faceprint.training.logging.jsonl import read_metrics

COLOURS = ("#009e73", "#e69f00", "#0072b2")
"""Of IN, LN and BN; told apart by colour-blind eyes too."""


def plot_runs(run_folders: list[Path], path: Path) -> None:
    """Write a PNG with the losses of one or several runs on the left and their accuracies on the right.

    Raises `UserError` where a run has logged nothing, and where matplotlib is not installed.
    """
    check_plotting()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    alone = len(run_folders) == 1
    for number, folder in enumerate(run_folders):
        records = list(read_metrics(folder))
        training = [record for record in records if record["kind"] == "train"]
        if not training:
            raise UserError(f"{folder}: has no metrics.jsonl with training figures; give a run folder")
        _line(loss_axes, training, "loss", "training loss" if alone else folder.name, f"C{number}")
        for style, protocol in enumerate(sorted({r["protocol"] for r in records if r["kind"] == "evaluation"})):
            scored = [record for record in records if record.get("protocol") == protocol]
            colour = f"C{style + 1}" if alone else f"C{number}"
            label = f"{protocol}: accuracy" if alone else f"{folder.name}, {protocol}"
            _line(accuracy_axes, scored, "accuracy", label, colour, marker="os^v"[style % 4])
        if alone:
            label = "training batches, without margin"
            _line(accuracy_axes, training, "train_accuracy", label, "#999999")
    loss_axes.set_ylabel("loss")
    accuracy_axes.set_ylabel("accuracy")
    accuracy_axes.set_ylim(0 if alone else None, 1.02)
    for axes in (loss_axes, accuracy_axes):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:  # a run may have had no evaluation
            axes.legend(frameon=False)
    write_figure(figure, path)


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


def _line(axes: Any, records: list[dict[str, Any]], key: str, label: str, colour: str, **style: Any) -> None:
    steps = [record["step"] for record in records]
    axes.plot(steps, [record[key] for record in records], label=label, color=colour, **style)
