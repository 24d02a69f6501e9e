"""`faceprint sweep`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from typing import Annotated, Any, Optional

import typer

from faceprint.cli.output import JsonOption, err, out, print_table, write_json


def sweep(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A bundled recipe or a YAML file.")],
    keys: Annotated[
        list[str], typer.Argument(metavar="key=…", help="key=a,b,c or key=low..high to search; key=value for all.")
    ],
    trials: Annotated[
        Optional[int],
        typer.Option(min=1, help="Trainings in all; without it every combination of lists, 20 where there is a range."),
    ] = None,
    prune: Annotated[bool, typer.Option(help="Give up trials below the median of the others at an evaluation.")] = True,
    json_file: JsonOption = None,
) -> None:
    """Search the keys that give the best accuracy of the recipe's first protocol.

    Each trial has a run folder trial_000 … in out=DIR (runs/RECIPE_sweep). A range of positive numbers whose ends are
    ten times apart or more is searched by its logarithm. Stopped, the same command goes on where it was.

    Example: faceprint sweep quickstart optimizer.lr=0.02..0.5 margin.options.margin=0.1,0.2,0.3 --trials 12
    """
    from faceprint.training.stopping import STOPPED_EXIT
    from faceprint.training.sweep import SweepStoppedError, best_trial, plan_sweep, run_sweep

    planned = plan_sweep(recipe, keys)
    err.print(f"sweep in {planned.folder}", markup=False)
    try:
        done = run_sweep(planned, trials or planned.combinations or 20, prune=prune, report=_say)
    except SweepStoppedError as error:
        err.print(str(error), markup=False)
        sys.exit(STOPPED_EXIT)
    best = best_trial(done)
    rows = [(f"{trial.number:03d}", _accuracy(trial), trial.state, *trial.keys.values()) for trial in _ranked(done)]
    print_table("Sweep", ("trial", "accuracy", "", *planned.space), rows, json_target=json_file)
    command = None
    if best is not None:
        command = shlex.join(["faceprint", "train", recipe, *planned.assignments(best.keys)])
        (err if json_file == "-" else out).print(f"best: {command}", markup=False)
    result = {"folder": str(planned.folder), "trials": [asdict(trial) for trial in done], "best": command}
    write_json(result, json_file)
    if best is None:
        err.print("no trial came to its end", style="bold red")
        sys.exit(1)


def _say(trial: Any) -> None:
    keys = " ".join(f"{key}={value}" for key, value in trial.keys.items())
    reason = f" ({trial.reason})" if trial.reason else ""
    err.print(f"trial {trial.number:03d}: {_accuracy(trial)} {trial.state}{reason}, {keys}", markup=False)


def _accuracy(trial: Any) -> str:
    return "-" if trial.accuracy is None else f"{trial.accuracy:.4f}"


def _ranked(trials: list[Any]) -> list[Any]:
    return sorted(trials, key=lambda trial: (trial.state != "complete", -(trial.accuracy or 0.0), trial.number))
