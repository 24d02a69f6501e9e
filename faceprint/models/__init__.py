"""Networks by name."""

from __future__ import annotations

import inspect
from fnmatch import fnmatchcase
from typing import Any

from faceprint.models.names import FAMILIES, PUBLISHED_NAMES, parse_name
from faceprint.models.network import FaceNetwork
from faceprint.models.precise_bn import precise_bn
from faceprint.models.weights import ExportedWeights, WeightsReport, export_weights, load_weights
from faceprint.registry import unknown

__all__ = [
    "ExportedWeights",
    "FaceNetwork",
    "WeightsReport",
    "create_model",
    "export_weights",
    "list_models",
    "load_weights",
    "precise_bn",
]


def create_model(
    name: str,
    *,
    embedding_dim: int | None = None,
    image_size: tuple[int, int] = (112, 112),
    **options: Any,
) -> FaceNetwork:
    """Build a network by its published name, such as "r50" or "SE-LResNet50E_v3", or by a family's, such as "resnet".

    `embedding_dim` None is the network's own default (512 in most tables); `image_size` is (height, width).
    `options` are keyword arguments of the family's builder, such as `depth=34`, `output="FC"` or `norm="syncsn"`; they
    win over what the name says. The network takes float (B, 3, height, width) RGB in [-1, 1] and returns raw (not
    normalised) float32 embeddings (B, D). Raises `UserError` for an unknown name, part of a name or option, naming the
    choices.
    """
    family, stated = parse_name(name)
    builder = FAMILIES[family]
    allowed = list(inspect.signature(builder).parameters)
    for option in options:
        if option not in allowed:
            raise unknown(f"option of network {name!r}", option, allowed)
    if embedding_dim is not None:
        options["embedding_dim"] = embedding_dim
    return builder(image_size=image_size, **{**stated, **options})


def list_models(pattern: str = "*") -> list[str]:
    """The published names that match the shell `pattern`; the grammar of `faceprint.models.names` takes more."""
    return [name for name in PUBLISHED_NAMES if fnmatchcase(name, pattern)]
