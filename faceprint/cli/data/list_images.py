"""`faceprint data list`: the image list of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from faceprint.cli.data.conversion import ExcludeOption, MinImagesOption, print_skipped, read_names
from faceprint.cli.output import JsonOption, print_table, write_json


def list_images(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A folder of identities, or another list.")],
    output: Annotated[
        Path,
        typer.Option(metavar="FILE", help=".txt (path and number), .lst (key, number, path) or .csv (with names)."),
    ],
    absolute: Annotated[bool, typer.Option("--absolute", help="Write absolute paths.")] = False,
    root: Annotated[
        Optional[Path],
        typer.Option(metavar="DIR", help="Write paths relative to DIR. Default: to the folder of FILE."),
    ] = None,
    exclude: ExcludeOption = None,
    min_images: MinImagesOption = 1,
    json_target: JsonOption = None,
) -> None:
    """List the images of a folder with their labels, sorted, one line each.

    Training reads a list where the images lie, so that leaving some out by --exclude copies nothing.

    Example: faceprint data list crops --output crops.txt
    """
    from faceprint.data.list_set import list_set

    files = list_set(source, output, absolute=absolute, root=root, exclude=read_names(exclude), min_images=min_images)
    print_skipped(files)
    rows = [("images", f"{len(files):,}"), ("identities", f"{len(files.class_names):,}")]
    print_table(f"Listed in {output}", ["", "count"], rows, json_target=json_target)
    result = {"list": str(output), "images": len(files), "identities": len(files.class_names)}
    write_json(result, json_target)
