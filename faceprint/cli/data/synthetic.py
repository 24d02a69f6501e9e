"""`faceprint data synthetic`: generated people as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from faceprint.cli.output import JsonOption, print_table, progress_bar, write_json


def synthetic(
    destination: Annotated[Path, typer.Argument(metavar="DST", help="New folder for IDENTITY/IMAGE.png.")],
    identities: Annotated[int, typer.Option(metavar="N", help="People to draw.")] = 10,
    images: Annotated[int, typer.Option(metavar="N", help="Images of each.")] = 4,
    difficulty: Annotated[float, typer.Option(help="How much pose, light and expression vary, 0 to 1.")] = 0.5,
    size: Annotated[str, typer.Option(metavar="HxW", help="Height x width of an image.")] = "112x112",
    seed: Annotated[int, typer.Option(help="Another seed, other people.")] = 0,
    first_identity: Annotated[int, typer.Option(metavar="N", help="Number of the first person.")] = 0,
    json_target: JsonOption = None,
) -> None:
    """Draw generated people into an image folder: the data of the quickstart, as files.

    The faces are drawings; what a network makes of them says nothing about photographs.
    """
    from faceprint.data.pixels import parse_size
    from faceprint.data.synthetic import SyntheticFaces
    from faceprint.data.write_set import write_set

    faces = SyntheticFaces(
        identities, images, size=parse_size(size), difficulty=difficulty, seed=seed, first_identity=first_identity
    )
    with progress_bar("drawing", "images") as progress:
        write_set(faces, destination, kind="folder", progress=progress)
    rows = [("identities", f"{identities:,}"), ("images", f"{len(faces):,}")]
    print_table(f"Generated people in {destination}", ["", "count"], rows, json_target=json_target)
    write_json({"folder": str(destination), "identities": identities, "images": len(faces)}, json_target)
