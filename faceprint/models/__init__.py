"""Networks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from faceprint.models.mobilefacenet import mobilefacenet
from faceprint.models.network import FaceNetwork
from faceprint.models.resnet import resnet
from faceprint.registry import Table, unknown

__all__ = ["FaceNetwork", "create_model", "list_models"]

NETWORKS: Table[Callable[..., FaceNetwork]] = Table(
    "network",
    [
        ("r18", partial(resnet, depth=18)),
        ("r34", partial(resnet, depth=34)),
        ("r50", partial(resnet, depth=50)),
        ("r100", partial(resnet, depth=100)),
        ("r200", partial(resnet, depth=200)),
        ("mbf", mobilefacenet),
    ],
)


def create_model(
    name: str,
    *,
    embedding_dim: int | None = None,
    image_size: tuple[int, int] = (112, 112),
    **options: Any,
) -> FaceNetwork:
    """Build a network by its published name.

    `embedding_dim` None is the network's own default (512 in the tables); `image_size` is (height, width).
    `options` are keyword arguments of the network's builder, such as `output="FC"` or `norm="bn"`. The network takes
    float (B, 3, height, width) RGB in [-1, 1] and returns raw (not normalised) float32 embeddings (B, D).
    Raises `UserError` for an unknown name or option, naming the choices.
    """
    builder = NETWORKS[name]
    bound: set[str] = set(builder.keywords) if isinstance(builder, partial) else set()
    allowed = [option for option in inspect.signature(builder).parameters if option not in bound]
    for option in options:
        if option not in allowed:
            raise unknown(f"option of network {name!r}", option, allowed)
    if embedding_dim is not None:
        options["embedding_dim"] = embedding_dim
    return builder(image_size=image_size, **options)


def list_models(pattern: str = "*") -> list[str]:
    """Names that `create_model` takes and that match the shell `pattern`."""
    return NETWORKS.matching(pattern)
