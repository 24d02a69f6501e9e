"""The command line: one file a command. Each parses, makes one call, prints, and sets the exit code."""

from __future__ import annotations

import logging
import sys

import typer

from faceprint.cli import (
    bench,
    calibrate,
    centres,
    compare,
    data,
    data_check,
    data_clean,
    data_loading,
    data_pairs,
    dist_check,
    doctor,
    embed,
    evaluate,
    export,
    gallery,
    harden,
    identify,
    import_weights,
    plot,
    report,
    sweep,
    train,
    verify,
    zoo,
)
from faceprint.cli.output import err
from faceprint.errors import UserError, WorkerDied

app = typer.Typer(
    name="faceprint",
    help="Train and evaluate face-recognition networks.\n\nStart with: faceprint train quickstart out=runs/quickstart",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("train")(train.train)
app.command("dist-check")(dist_check.dist_check)
app.command("eval")(evaluate.evaluate)
app.command("calibrate")(calibrate.calibrate)
app.add_typer(data.app, name="data")
data.app.command("check")(data_check.check)
data.app.command("stats")(data_check.stats)
data.app.command("clean")(data_clean.clean)
data.app.command("overlap")(data_clean.overlap)
data.app.add_typer(data_pairs.app, name="pairs")
data.app.command("bench")(data_loading.bench)
data.app.command("preview")(data_loading.preview)
app.command("export")(export.export)
app.command("import")(import_weights.import_weights)
app.command("embed")(embed.embed)
app.command("verify")(verify.verify)
app.add_typer(gallery.app, name="gallery")
app.command("identify")(identify.identify)
app.command("centres")(centres.centres)
app.command("harden")(harden.harden)
app.command("compare")(compare.compare)
app.command("doctor")(doctor.doctor)
app.command("plot")(plot.plot)
app.command("report")(report.report)
app.command("sweep")(sweep.sweep)
app.command("zoo")(zoo.zoo)
app.add_typer(bench.app, name="bench")


@app.callback(invoke_without_command=True)
def options(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from faceprint import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line. Exit status: 0 success, 2 a user's mistake (one line, no traceback), 1 failure."""
    from rich.logging import RichHandler

    logging.basicConfig(format="%(message)s", handlers=[RichHandler(console=err, show_time=False, show_path=False)])
    try:
        app()
    except (UserError, WorkerDied) as error:
        err.print(f"error: {error}", style="bold red", markup=False)
        sys.exit(2 if isinstance(error, UserError) else 1)
