"""Weights in the layouts of other code bases: to a model folder, and from one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.inference.input_overrides import parse_overrides
from faceprint.inference.model_card import ModelCard
from faceprint.inference.model_folder import CARD, load_model, save_model
from faceprint.inference.output_file import check_output
from faceprint.models import ExportedWeights, WeightsReport, create_model, load_weights
from faceprint.models import export_weights as write_weights

UNKNOWN_LICENCE = "unknown"


def import_weights(
    weights: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    network: str,
    embedding_dim: int | None = None,
    options: Mapping[str, Any] | None = None,
    overrides: Mapping[str, str] | None = None,
    licence: str = UNKNOWN_LICENCE,
    allow_mismatch: bool = False,
) -> WeightsReport:
    """Make the model folder `output` of `weights`, loaded by `load_weights` into `create_model(network, …)`.

    `options` are the network's. What it takes is what the weights' layout says, or RGB, (x - 127.5) / 127.5, and what
    `overrides` says instead: texts, as for `faceprint.load` (colour, mean, std, size). The card notes the file's name,
    its sha256 and the layout. Raises `UserError` as `load_weights` does, and for a folder that has a model already.
    """
    source, folder = Path(weights), Path(output)
    if (folder / CARD).exists():
        raise UserError(f"{folder}: has a model already; give another folder")
    stated = parse_overrides(overrides or {})
    size = stated.get("size", InputSpec().size)
    model = create_model(network, embedding_dim=embedding_dim, image_size=size, **(options or {}))
    report = load_weights(model, source, allow_mismatch=allow_mismatch)
    card = ModelCard(
        architecture=network,
        options=dict(options or {}),
        embedding_dim=model.embedding_dim,
        input=replace(report.input or InputSpec(), **{"size": size, **stated}),
        licence=licence,
        provenance={"weights": _provenance(source, report)},
    )
    save_model(folder, model, card)
    return report


def export_weights(model: str | os.PathLike[str], output: str | os.PathLike[str], *, layout: str) -> ExportedWeights:
    """Write the weights of a run folder or model folder as a state dict that the code base `layout` loads.

    Raises `UserError` as `faceprint.models.export_weights` does, and for an output that does not end in .pt.
    """
    check_output(Path(output), ".pt")
    network, _ = load_model(model)
    return write_weights(network, output, layout=layout)


def _provenance(source: Path, report: WeightsReport) -> dict[str, Any]:
    found: dict[str, Any] = {"file": source.name, "layout": report.layout}
    if source.is_file():
        found["sha256"] = hashlib.sha256(source.read_bytes()).hexdigest()
    if report.missing or report.reshaped:
        found["not_loaded"] = [*report.missing, *report.reshaped]
    return found
