"""Our networks into the layout of another code base, so that one can leave as easily as one came."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from faceprint.errors import UserError
from faceprint.files import write_whole
from faceprint.models.network import FaceNetwork
from faceprint.models.weights.eps import moved_variances, norms
from faceprint.models.weights.layout import Layout
from faceprint.models.weights.layouts import LAYOUTS
from faceprint.registry import unknown

EXPORTED = {name: row for name, row in LAYOUTS.items() if row.published}
"""The layouts that weights can be written in."""


@dataclass(frozen=True, kw_only=True)
class ExportedWeights:
    """What `export_weights` wrote: `layout` is the row of `LAYOUTS`."""

    output: str
    layout: str
    num_tensors: int
    num_bytes: int


def export_weights(
    model: FaceNetwork, path: str | os.PathLike[str], *, layout: str = "arcface_torch"
) -> ExportedWeights:
    """Write the weights of `model` as a state dict (.pt) that the code base `layout` loads strictly.

    arcface_torch: iresnet, MobileFaceNet and ViT, for images of 112x112. `load_weights` brings them back, each byte as
    it was where the norms' eps are the published ones; a running variance makes up for another eps. The file is there
    whole or not at all. Raises `UserError` for a network that the code base does not have, and names that know no
    layout.
    """
    rows = {name: row for name, row in EXPORTED.items() if name.split("/")[0] == layout}
    if not rows:
        raise unknown("layout to export weights to", layout, sorted({name.split("/")[0] for name in EXPORTED}))
    for name, row in rows.items():
        published = _published(row, model)
        if published is not None and _shapes(published) == _shapes(model):
            return _write(model, published, name, Path(path))
    kinds = ", ".join(name.split("/")[1] for name in rows)
    raise UserError(f"{layout} has no network with these layers; it has {kinds} of its published widths for 112x112")


def _published(row: Layout, model: FaceNetwork) -> FaceNetwork | None:
    with torch.device("meta"):
        return row.published(model) if row.published else None


def _shapes(network: FaceNetwork) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def _write(model: FaceNetwork, published: FaceNetwork, name: str, path: Path) -> ExportedWeights:
    values = moved_variances(model.state_dict(), norms(model), norms(published))
    sources = LAYOUTS[name].sources(model)
    state = {sources[ours].names[0]: tensor.detach().cpu().contiguous() for ours, tensor in values.items()}
    content = io.BytesIO()
    torch.save(state, content)
    write_whole(path, content.getvalue())
    return ExportedWeights(output=str(path), layout=name, num_tensors=len(state), num_bytes=len(content.getvalue()))
