"""The labelled set that a command is given: data on disk or behind a URL, or the data of a recipe."""

from __future__ import annotations

import os
from pathlib import Path

from faceprint.data.formats import open_source
from faceprint.data.path_names import with_names
from faceprint.data.source import Source
from faceprint.errors import UserError
from faceprint.recipe import list_recipes, load_config
from faceprint.registry import nearest
from faceprint.training.sources import build_source


def is_recipe(what: str) -> bool:
    """Whether `what` is a YAML file, or the name of a bundled recipe where nothing on disk is called so."""
    return Path(what).suffix in (".yaml", ".yml") or (what in list_recipes() and not os.path.exists(what))


def open_set(what: str) -> Source:
    """The labelled set at the path, pattern or URL `what` (`open_source`), or what a training with the recipe `what`
    would see: several sets as one, without the people it leaves out. Raises `UserError`."""
    if not is_recipe(what):
        check_meant(what)
        return open_source(what)
    config = load_config(what)
    return build_source(config.data, config.network.image_size)


def check_meant(what: str) -> None:
    """Raise `UserError` for what is not there, and nearly the name of a recipe."""
    if not os.path.exists(what) and (near := nearest(what, list_recipes(), 1, likeness=0.8)):
        raise UserError(f"{what}: no such file or folder; did you mean the recipe {near[0]}?")


def open_named(what: str) -> Source:
    """The same, its identities called as `data subset` calls them: `with_names`."""
    return with_names(open_set(what))
