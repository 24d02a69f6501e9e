"""What commands print: tables and results on standard output, progress and messages on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from faceprint.files import write_whole

JsonOption = Annotated[
    Optional[str],
    typer.Option("--json", metavar="FILE", help="Write the result as JSON to FILE; - for standard output."),
]

LINE_SECONDS = 60.0
"""Between lines that say how far the work is, in a log."""
_WIDEST = 1000

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def write_json(result: Mapping[str, Any], target: str | None) -> None:
    """Write `result` as one JSON document to the file `target`, to standard output for "-", nowhere for None."""
    if target is None:
        return
    text = json.dumps(result, indent=2) + "\n"
    if target == "-":
        sys.stdout.write(text)
    else:
        write_whole(Path(target), text.encode())


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, json_target: str | None) -> None:
    """A table on standard output, or on standard error where standard output carries the JSON."""
    table = Table(title=Text(title, style="table.title"), title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # names with brackets are no markup
    console = err if json_target == "-" else out
    if not console.is_terminal:  # in a file or a pipe no line has an end that figures would have to be cut for
        console.width = _WIDEST
    console.print(table)


def print_markdown(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, json_target: str | None
) -> None:
    """`print_table` in Markdown, under a heading of the second level; cells may have several lines."""
    table = [columns, ["---"] * len(columns), *rows]
    lines = [f"| {' | '.join(row)} |".replace("\n", "<br>") for row in table]
    text = "\n".join([f"## {title}", "", *lines, ""])
    (err if json_target == "-" else out).print(text, markup=False)


@contextmanager
def progress_bar(description: str, unit: str) -> Generator[Callable[[int, int], None]]:
    """A progress bar on standard error; yields `update(done, total)`, to be called as work completes.

    The bar appears with the first update, so that an error before it stands alone. Where standard error is no terminal
    a line is written every minute in its place.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Task as RichTask

    class Rate(ProgressColumn):
        def render(self, task: RichTask) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.0f} {unit}/s" if speed else f"- {unit}/s")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=err)
    task = progress.add_task(description, total=None)

    said = time.monotonic()

    def update(done: int, total: int) -> None:
        nonlocal said
        progress.start()
        progress.update(task, completed=done, total=total or None)
        if not err.is_terminal and time.monotonic() - said >= LINE_SECONDS:
            said = time.monotonic()
            err.print(f"{description}: {done:,} of {total:,} {unit}", markup=False)

    try:
        yield update
    finally:
        if progress.live.is_started:  # else an empty line would stand above an error
            progress.stop()
