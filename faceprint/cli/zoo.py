"""`faceprint zoo`."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from faceprint.cli.output import JsonOption, out, print_table, write_json


def zoo(
    name: Annotated[
        Optional[str],  # noqa: UP045 - read by typer at run time
        typer.Argument(metavar="NAME", help="One recipe, to be shown whole."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """List the bundled recipes, or show one.

    Example: faceprint zoo quickstart
    """
    from faceprint.config import dump, list_recipes, load_config

    if name is not None:
        config = load_config(name)
        if json_file != "-":
            out.print(f"# faceprint train {name}\n{dump(config)}", markup=False)
        write_json(config.model_dump(mode="json"), json_file)
        return
    recipes = {recipe: load_config(recipe) for recipe in list_recipes()}
    rows = [(recipe, config.network.name, config.margin.name, config.description) for recipe, config in recipes.items()]
    print_table("Recipes", ("name", "network", "margin", "what it is"), rows, json_target=json_file)
    write_json({recipe: config.model_dump(mode="json") for recipe, config in recipes.items()}, json_file)
