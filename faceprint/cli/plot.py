"""`faceprint plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from faceprint.cli.output import JsonOption, err, write_json


def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="One run folder, or several to compare.")],
    output: Annotated[Path, typer.Option("--output", metavar="FILE.png", help="Where the picture goes.")],
    json_file: JsonOption = None,
) -> None:
    """Draw the loss and the accuracies of a run, or of several, as a PNG.

    Example: faceprint plot runs/quickstart --output curve.png
    """
    from faceprint.training.plot import plot_runs

    plot_runs(runs, output)
    err.print(f"wrote {output}", markup=False)
    write_json({"runs": [str(run) for run in runs], "picture": str(output)}, json_file)
