"""`faceprint data verify`: whether a set is still what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from faceprint.cli.data.conversion import WorkersOption, check_again
from faceprint.cli.output import JsonOption, print_table, write_json


def verify(
    source: Annotated[Path, typer.Argument(metavar="SET", help="A set that `faceprint data` wrote.")],
    workers: WorkersOption = None,
    json_target: JsonOption = None,
) -> None:
    """Read every image of a set and compare it with the checksums it was written with.

    Exit status 1 where they differ. Two sets with one checksum hold the same labelled images, in whatever format and
    order.
    """
    report = check_again(source, workers)
    rows = [
        ("images", f"{report.images:,}", f"{report.expected_images:,}"),
        ("checksum", f"{report.content[:16]}…", f"{report.expected_content[:16]}…"),
        ("unreadable", f"{len(report.unreadable):,}", "0"),
    ]
    print_table(f"{source}", ["", "read", "written"], rows, json_target=json_target)
    write_json(report.as_dict(), json_target)
    if not report.same:
        raise typer.Exit(1)
