"""What a recipe's augmentation makes of its faces."""

from __future__ import annotations

from collections.abc import Sequence

from faceprint.assignments import override
from faceprint.config import Config
from faceprint.data.augment_sheet import augmentation_sheet
from faceprint.data.formats import open_source
from faceprint.data.images import Image
from faceprint.recipe import load_config, validate
from faceprint.training.batches import build_augmentation
from faceprint.training.open_set import check_meant, is_recipe
from faceprint.training.sources import build_source


def preview(what: str, assignments: Sequence[str]) -> tuple[Image, Config]:
    """A sheet of the augmented faces of `what`, a recipe or a labelled set on disk, and the configuration it shows.

    `assignments` are `key=value`, such as `augment.preset=robust`. Raises `UserError`.
    """
    if is_recipe(what):
        config = load_config(what, assignments)
        source = build_source(config.data, config.network.image_size)
    else:
        check_meant(what)
        config = validate(override({"data": {"source": "synthetic"}, "steps": 1}, assignments))
        source = open_source(what)
    return augmentation_sheet(source, build_augmentation(config.augment), config.seed), config
