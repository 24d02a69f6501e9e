"""`faceprint report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from faceprint.cli.output import JsonOption, err, write_json
from faceprint.errors import UserError

if TYPE_CHECKING:
    from faceprint.evaluation.result import Result

Folder = Optional[Path]


def report(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT.json", help="What eval … --json wrote; several.")],
    output: Annotated[Folder, typer.Option(metavar="FILE.html", help="The page: one file that works offline.")] = None,
    images: Annotated[Folder, typer.Option(metavar="FOLDER", help="Images of the worst pairs, to be shown.")] = None,
    published: Annotated[
        Optional[list[str]],
        typer.Option(metavar="RECIPE", help="Show this row's published figures too; * stands for any letters."),
    ] = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Face recognition results",
    png: Annotated[Folder, typer.Option(metavar="FOLDER", help="Write the pictures as PNG.")] = None,
    svg: Annotated[Folder, typer.Option(metavar="FOLDER", help="Write the pictures as SVG.")] = None,
    csv: Annotated[Folder, typer.Option(metavar="FOLDER", help="Write comparison.csv and figures.csv.")] = None,
    latex: Annotated[Folder, typer.Option(metavar="FOLDER", help="Write comparison.tex and figures.tex.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Make one page of the results of one or several models, and tables and pictures for papers.

    Published figures stand beside those of a model that was evaluated as a recipe (faceprint eval RECIPE) or has the
    network of one, and of the rows that --published names.

    Example: faceprint report a.json b.json --output report.html --latex paper
    """
    from faceprint.evaluation.page import compare, write_tables
    from faceprint.evaluation.result import read_result

    if not any((output, png, svg, csv, latex)):
        raise UserError("nothing to write: give --output FILE.html, --png, --svg, --csv or --latex FOLDER")
    if images is not None and not images.is_dir():
        raise UserError(f"{images}: no such folder of images")
    measured = [result for path in results for result in read_result(path).each]
    comparison = compare([*_published(measured, published or []), *measured])
    written = write_tables(comparison, csv=csv, latex=latex)
    if output or png or svg:
        from faceprint.evaluation.page.html import write_page
        from faceprint.evaluation.page.pictures import pictures, write_pictures

        drawn = pictures(comparison)
        written += write_pictures(drawn, png=png, svg=svg)
        if output:
            missing = write_page(comparison, drawn, output, images=images, title=title)
            written.append(output)
            if missing:
                err.print(f"{missing:,} images of worst pairs were not found in {images}", markup=False)
    for path in written:
        err.print(f"wrote {path}", markup=False)
    write_json({"written": [str(path) for path in written], "models": comparison.names}, json_file)


def _published(measured: Sequence[Result], patterns: Sequence[str]) -> list[Result]:
    """Published rows with figures: of the recipes and networks of `measured`, and of those whose name fits."""
    from fnmatch import fnmatchcase

    from faceprint.recipe import list_recipes, load_config
    from faceprint.training.pretrained import published_result

    recipes = {result.recipe for result in measured}
    networks = {result.about_model.architecture for result in measured if result.recipe is None}
    known = {name: load_config(name) for name in list_recipes()}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise UserError(f"no recipe {pattern!r}; faceprint zoo lists them")
    return [
        published_result(name, config)
        for name, config in known.items()
        if config.published
        and config.published.scores
        and (name in recipes or config.network.name in networks or any(fnmatchcase(name, p) for p in patterns))
    ]
