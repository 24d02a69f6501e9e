"""`faceprint zoo`."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from faceprint.cli.output import JsonOption, out, print_markdown, print_table, write_json

if TYPE_CHECKING:
    from faceprint.training.zoo import Row

COLUMNS = ("name", "network", "parameters", "GFLOPs", "MiB", "published MB", "published scores", "what it is")


def zoo(
    name: Annotated[
        Optional[str],  # noqa: UP045 - read by typer at run time
        typer.Argument(metavar="[NAME]", help="One recipe, to be shown whole."),
    ] = None,
    json_file: JsonOption = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
) -> None:
    """List the bundled recipes by the document that published them, or show one.

    Parameters, GFLOPs (1e9 multiply-adds an image) and MiB (float32 weights and buffers) are measured on the network
    as it is built here; sizes and scores are those that the document prints.

    Example: faceprint zoo arcface_torch/r50
    """
    from faceprint.config import dump, list_recipes
    from faceprint.training.zoo import row_values, zoo_row

    if name is not None:
        row = zoo_row(name)
        if json_file != "-":
            lines = [f"# {label + ':':<15} {text}" for label, text in details(row)]
            out.print("\n".join([*lines, dump(row.config)]), markup=False)
        write_json({"recipe": name, **row_values(row)}, json_file)
        return
    rows = [zoo_row(recipe) for recipe in list_recipes()]
    for document, of_document in groupby(rows, key=lambda row: row.document):
        cells = [table_cells(row) for row in of_document]
        if markdown:
            print_markdown(document or "Our own", COLUMNS, cells, json_target=json_file)
        else:
            print_table(document or "Our own", COLUMNS, cells, json_target=json_file)
    write_json({row.recipe: row_values(row) for row in rows}, json_file)


def table_cells(row: Row) -> tuple[str, ...]:
    """The cells of `COLUMNS`."""
    from faceprint.training.zoo import score_text

    published = row.config.published
    size = published and published.size_mb
    return (
        row.recipe,
        row.config.network.name,
        f"{row.network.parameters / 1e6:.2f} M",
        f"{row.network.flops / 1e9:.2f}",
        f"{row.size_mib:.2f}",
        "-" if size is None else f"{size:g}",
        ", ".join(map(score_text, published.scores)) if published and published.scores else "-",
        row.config.description if published is None else published.note,
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
        ("expected", ", ".join(map(score_text, published.scores)) or "no published figure"),
        ("size", "not published" if published.size_mb is None else f"{published.size_mb:g} MB published"),
        ("source", f"{published.source}; row {published.row}"),
    ]
    return [*lines, ("note", published.note)] if published.note else lines
