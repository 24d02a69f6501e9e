"""The table of layouts that are known."""

from __future__ import annotations

import re
from collections.abc import Iterable

from faceprint.errors import UserError
from faceprint.models.weights.arcface_torch import IRESNET, MBF, VIT
from faceprint.models.weights.body import CVLFACE, INSIGHTFACE_PYTORCH
from faceprint.models.weights.layout import Layout, Same
from faceprint.models.weights.mxnet import MXNET
from faceprint.models.weights.switchable import SWITCHABLE
from faceprint.registry import Table

OWN = Layout(marker=r"output\..+", source=lambda _network: Same)

LAYOUTS: Table[Layout] = Table(
    "layout of weights",
    [
        ("faceprint", OWN),
        ("arcface_torch/iresnet", IRESNET),
        ("arcface_torch/mbf", MBF),
        ("arcface_torch/vit", VIT),
        ("switchable_normalization", SWITCHABLE),
        ("cvlface", CVLFACE),
        ("insightface_pytorch", INSIGHTFACE_PYTORCH),
        ("mxnet", MXNET),
    ],
)
"""Code base, and its kind of network where it has several."""

_WRAPPERS = r"((module|model|net|backbone|basemodel|_orig_mod)\.)*"
_SHOWN = 5


def recognise(names: Iterable[str], path: object) -> tuple[str, str]:
    """(layout, prefix): which of `LAYOUTS` a file's `names` follow, behind the prefix that wrappers put before them.

    Raises `UserError` where they follow none.
    """
    listed = sorted(names)
    for layout, row in LAYOUTS.items():
        for name in listed:
            match = re.fullmatch(f"(?P<prefix>{_WRAPPERS})({row.marker})", name)
            if match:
                return layout, match["prefix"]
    shown = ", ".join(name[:80] for name in listed[:_SHOWN])
    raise UserError(f"{path}: no known layout has names like its {len(listed)}: {shown} …; known: {', '.join(LAYOUTS)}")
