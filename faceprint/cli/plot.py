"""`faceprint plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from faceprint.cli.output import JsonOption, err, write_json


def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="One run folder, or several to compare.")],
    output: Annotated[
        list[Path], typer.Option("--output", metavar="FILE", help="Where it goes, .png or .html; may be repeated.")
    ],
    every_figure: Annotated[
        bool, typer.Option("--all", help="All figures in a PNG too, not loss and accuracy alone.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Draw a run, or several in comparison, as a PNG or as a page that needs no network.

    The page has loss, accuracy, learning rate, speed, lengths of gradients and embeddings and the distribution of
    cosines, the results in a table, and the keys that differ.

    Example: faceprint plot runs/quickstart --output curve.png
    """
    from faceprint.training.compare import plot_runs

    for path in output:
        plot_runs(runs, path, every_figure=every_figure)
        err.print(f"wrote {path}", markup=False)
    written = [str(path) for path in output]
    write_json({"runs": [str(run) for run in runs], "picture": written[0], "files": written}, json_file)
