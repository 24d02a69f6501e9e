"""`faceprint centres`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from faceprint.cli.output import JsonOption, err, print_table, progress_bar, write_json

_SHOWN = 10


def centres(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    overrides: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="key=value", help="Keys of the run that are other now, such as data.path=FOLDER."),
    ] = None,
    output: Annotated[Path, typer.Option(metavar="FILE", help="The CSV file to write.")] = Path("centres.csv"),
    json_file: JsonOption = None,
) -> None:
    """Look for wrong labels: embed the training data with the run's model and compare each identity with its centre.

    The CSV has one row an identity: images, mean and lowest cosine with its own centre (the mean embedding), the image
    with the lowest, the nearest other identity, and the cosine of both centres. The most suspicious come first: several
    people under one name have a low mean cosine, one person under two names a high cosine with the nearest.

    Example: faceprint centres runs/quickstart --output centres.csv
    """
    from faceprint.training.centres import examine_run

    with progress_bar("embedding", "images") as progress:
        table = examine_run(run, overrides or [], progress)
    table.write_csv(output)
    first = [row._asdict() for row, _ in zip(table.rows(), range(_SHOWN), strict=False)]
    cells = [[f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()] for row in first]
    names = [name.replace("_", " ") for name in first[0]] if first else []
    print_table(f"The most suspicious identities of {output}", names, cells, json_target=json_file)
    for reason in list(table.unreadable.values())[:_SHOWN]:
        err.print(f"unreadable: {reason}", markup=False)
    result = {
        "csv": str(output),
        "identities": int((table.images > 0).sum()),
        "identities_without_images": int((table.images == 0).sum()),
        "images": int(table.images.sum()),
        "unreadable_images": len(table.unreadable),
        "first": first,
    }
    write_json(result, json_file)
