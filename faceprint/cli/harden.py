"""`faceprint harden`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Optional

import typer

from faceprint.cli.output import JsonOption, err, print_table, write_json


def harden(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder or model folder of a network with SN.")],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="A new folder.")],
    plot: Annotated[
        Optional[Path],
        typer.Option("--plot", metavar="FILE.png", help="A picture of what each layer takes."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Turn Switchable Normalisation into the statistic that each layer takes most of (SN+ARGMAX).

    Only the chosen statistics are computed afterwards: a layer that chose batch statistics for both mean and variance
    is a plain batch norm and folds into its convolution. A hardened network wants fine-tuning: for a run folder, the
    recipe DIR/finetune.yaml goes on from the hardened weights and the run's class centres.

    Example: faceprint harden runs/sn --output runs/sn_hard
    """
    from faceprint.training.harden import RECIPE, harden_run
    from faceprint.training.plot import plot_shares

    layers = harden_run(run, output)
    rows = [(layer.layer, in_per_cent(layer.mean), in_per_cent(layer.var), layer.becomes) for layer in layers]
    columns = ("layer", "mean, %", "variance, %", "becomes")
    print_table("What each layer takes of IN, LN and BN", columns, rows, json_target=json_file)
    counts = Counter(layer.becomes for layer in layers)
    err.print("; ".join(f"{count} x {kind}" for kind, count in counts.most_common()), markup=False)
    if plot is not None:
        plot_shares(layers, plot)
    recipe = output / RECIPE
    if recipe.is_file():
        err.print(f"next: faceprint train {recipe}", markup=False)
    write_json({"output": str(output), "layers": [layer.as_dict() for layer in layers]}, json_file)


def in_per_cent(shares: Sequence[float]) -> str:
    """`48 21 31`: short enough for a terminal of 80 columns."""
    return " ".join(f"{100 * share:2.0f}" for share in shares)
