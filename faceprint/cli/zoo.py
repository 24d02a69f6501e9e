"""`faceprint zoo`."""

from __future__ import annotations

from itertools import groupby
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from faceprint.cli.output import JsonOption, out, print_markdown, print_table, progress_bar, write_json

if TYPE_CHECKING:
    from faceprint.training.zoo import Row

COLUMNS = ("name", "parameters", "GFLOPs", "MiB (published)", "published scores")
PREFACE = """# The zoo

Made by `faceprint zoo --markdown`. A row is a recipe: `faceprint train FOLDER/NAME data.path=…`, the folder being the
heading here; `faceprint zoo FOLDER/NAME` shows it whole, with its source. Parameters, GFLOPs (1e9 multiply-adds for one
image: convolutions, linear layers, attention) and MiB (weights and buffers in float32) are measured on the networks as
this program builds them. **Sizes in brackets and all scores are those that the documents print, not results of this
program.** The documents write MB for MiB: so read, every size in brackets is met within 3 %, or a note says why not.
"""


def zoo(
    name: Annotated[
        Optional[str],
        typer.Argument(metavar="NAME", help="One recipe, to be shown whole."),
    ] = None,
    json_file: JsonOption = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as a Markdown page.")] = False,
) -> None:
    """List the bundled recipes by the document that published them, or show one.

    Parameters, GFLOPs (1e9 multiply-adds an image) and MiB (float32 weights and buffers) are measured on the network
    as it is built here; sizes in brackets and scores are those that the document prints.

    Example: faceprint zoo arcface_torch/r50
    """
    from faceprint.recipe import dump, list_recipes
    from faceprint.training.zoo import row_values, zoo_row

    if name is not None:
        row = zoo_row(name)
        if json_file != "-":
            lines = [f"# {label + ':':<16} {text}" for label, text in details(row)]
            out.print("\n".join([*lines, dump(row.config)]), markup=False)
        write_json({"recipe": name, **row_values(row)}, json_file)
        return
    recipes = list_recipes()
    rows: list[Row] = []
    with progress_bar("measuring", "networks") as update:
        for recipe in recipes:
            rows.append(zoo_row(recipe))
            update(len(rows), len(recipes))
    if markdown and json_file != "-":
        out.print(PREFACE, markup=False)
    for document, of_document in groupby(rows, key=lambda row: row.document):
        show = print_markdown if markdown else print_table
        show(document or "Our own", COLUMNS, [table_cells(row) for row in of_document], json_target=json_file)
    write_json({row.recipe: row_values(row) for row in rows}, json_file)


def table_cells(row: Row) -> tuple[str, ...]:
    """The cells of `COLUMNS`: in the last one, a line for each score and one for what must be said besides."""
    from faceprint.training.zoo import score_text

    published = row.config.published
    remark = row.config.description if published is None else published.note
    return (
        PurePosixPath(row.recipe).name,
        f"{row.network.parameters / 1e6:.2f} M",
        f"{row.network.flops / 1e9:.2f}",
        f"{row.size_mib:.2f}" + (f" ({row.published_size:g})" if row.published_size else ""),
        "\n".join([*map(score_text, row.scores), *([remark] if remark else [])]),
    )


def details(row: Row) -> list[tuple[str, str]]:
    """(label, text) of what `faceprint zoo NAME` says before the configuration."""
    from faceprint.training.zoo import score_text

    network, published = row.network, row.config.published
    lines = [(f"in {processes}", command) for processes, command in row.commands.items()]
    lines.append(
        (
            "network",
            f"{row.config.network.name}: {network.parameters:,} parameters, {network.flops / 1e9:.2f} GFLOPs"
            f" (multiply-adds an image), {row.size_mib:.2f} MiB of float32, {network.embedding_dim} dimensions",
        )
    )
    if published is None:
        return lines
    if row.training_flops is not None:
        lines.append(("training", f"{row.training_flops:.1e} multiply-adds, forward and backward"))
    lines += [
        ("data", f"{published.dataset}: {published.num_images:,} images of {published.num_identities:,} identities"),
        ("expected", ", ".join(map(score_text, row.scores)) or "no published figure"),
        ("published size", "none" if published.size_mb is None else f"{published.size_mb:g} MB"),
        ("source", f"{published.source}; row {published.row}"),
    ]
    return [*lines, ("note", published.note)] if published.note else lines
