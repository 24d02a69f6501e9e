"""A picture of a run: loss and accuracy over steps."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from faceprint.errors import UserError
from faceprint.evaluation.report import check_plotting
from faceprint.files import write_whole
from faceprint.training.logging.jsonl import read_metrics


def plot_run(run_folder: Path, path: Path) -> None:
    """Write a PNG with the loss of `run_folder` on the left and the accuracies on the right.

    Raises `UserError` where the run has logged nothing, and where matplotlib is not installed.
    """
    check_plotting()
    from matplotlib.figure import Figure

    records = list(read_metrics(run_folder))
    training = [record for record in records if record["kind"] == "train"]
    if not training:
        raise UserError(f"{run_folder}: has no metrics.jsonl with training figures; give a run folder")
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    _line(loss_axes, training, "loss", "training loss", "#0072b2")
    loss_axes.set_ylabel("loss")
    for number, protocol in enumerate(sorted({r["protocol"] for r in records if r["kind"] == "evaluation"})):
        scored = [record for record in records if record.get("protocol") == protocol]
        _line(accuracy_axes, scored, "accuracy", f"{protocol}: accuracy", f"C{number + 1}", marker="o")
    _line(accuracy_axes, training, "train_accuracy", "training batches, without margin", "#999999")
    accuracy_axes.set_ylabel("accuracy")
    accuracy_axes.set_ylim(0, 1.02)
    for axes in (loss_axes, accuracy_axes):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    write_whole(path, png.getvalue())


def _line(axes: Any, records: list[dict[str, Any]], key: str, label: str, colour: str, **style: Any) -> None:
    steps = [record["step"] for record in records]
    axes.plot(steps, [record[key] for record in records], label=label, color=colour, **style)
