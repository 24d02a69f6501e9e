"""`faceprint plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from faceprint.cli.output import JsonOption, err, write_json


def plot(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    output: Annotated[Path, typer.Option("--output", metavar="FILE.png", help="Where the picture goes.")],
    json_file: JsonOption = None,
) -> None:
    """Draw the loss and the accuracies of a run as a PNG.

    Example: faceprint plot runs/quickstart --output curve.png
    """
    from faceprint.training.plot import plot_run

    plot_run(run, output)
    err.print(f"wrote {output}", markup=False)
    write_json({"run": str(run), "picture": str(output)}, json_file)
