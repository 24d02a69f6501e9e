"""`faceprint dist-check`."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Optional

import typer

from faceprint.cli.launch import start_processes
from faceprint.cli.output import JsonOption, err, print_table, write_json


def dist_check(
    recipe: Annotated[
        Optional[str],
        typer.Argument(metavar="[RECIPE]", help="A recipe, to compare its data and to predict its step."),
    ] = None,
    overrides: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="key=value", help="Keys of the recipe, as for train."),
    ] = None,
    processes: Annotated[
        int, typer.Option(metavar="N", help="Check N processes of this machine, as torchrun would start them.")
    ] = 1,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for a missing process.")] = 30.0,
    json_file: JsonOption = None,
) -> None:
    """Check that processes on one or several machines can train together, before a long training does.

    Start it as the training will be: by torchrun on every machine, or with --processes on one. Ranks that do not come
    are named; version, master address, configuration and data must be the same in all. Shown are the speed of their
    exchange and, with a recipe, the time of a step that follows from it. Exit status 1: there are differences.

    Example: faceprint dist-check quickstart --processes 2
    """
    if processes > 1:
        start_processes(processes)
    from faceprint.distributed import rank, together, world
    from faceprint.recipe import load_config
    from faceprint.training.dist_check import check_world

    with world(meeting_seconds=timeout):
        config = None if recipe is None else together(lambda: load_config(recipe, overrides or []))
        result = check_world(config)
        if rank() == 0:
            show(result, json_file)
    if result["differences"]:
        sys.exit(1)


def show(result: dict[str, Any], json_file: str | None) -> None:
    """A table, the differences and the JSON."""
    print_table("Processes", ("", ""), rows(result), json_target=json_file)
    for line in result["differences"]:
        err.print(f"differs: {line}", style="bold red", markup=False)
    write_json(result, json_file)


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What the table says, in words and units."""
    shown = [(key, str(result[key])) for key in ("processes", "device")]
    shown += [("machines", ", ".join(result["machines"]))]
    shown += [(key, str(value)[:16]) for key, value in result["facts"].items() if value is not None]
    if "exchange" in result:
        exchange = result["exchange"]
        shown += [("latency", f"{1e3 * exchange['latency_seconds']:.2f} ms")]
        for size, rate in exchange["bytes_per_second"].items():
            shown += [(f"all-reduce of {int(size) >> 20} MiB", f"{rate / 1e6:,.0f} MB/s")]
    for key, value in result.get("step", {}).items():
        unit = f"{value / 1e6:,.1f} MB" if key == "gradient_bytes" else f"{value:.4g}"
        shown.append((f"predicted {key}".replace("_", " "), unit))
    return shown
