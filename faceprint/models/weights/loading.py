"""Published weights into a network of ours: everything is checked first, then assigned."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.models.network import FaceNetwork
from faceprint.models.weights.checkpoint import Checkpoint
from faceprint.models.weights.eps import moved_variances, norms
from faceprint.models.weights.layouts import LAYOUTS
from faceprint.models.weights.pairing import Pairing, is_counter, pair
from faceprint.models.weights.reading import read_checkpoint

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class WeightsReport:
    """What `load_weights` found.

    `layout`: the row of `LAYOUTS`. `loaded`: number of our tensors taken from the file, counters of batches left out.
    `filled`: ours that the code base has no tensor for, set to what computes the same. `missing`: named in our way
    where that code base has no place for it, in the file's way where only the file lacks it. `unexpected`: in the file
    and not in our network; `reshaped`: of another shape. These three are empty unless mismatch was allowed. `outside`:
    in the file, but no part of a backbone, such as class centres. `input`: what the network takes, None where nothing
    says; `note`: what else to know.
    """

    path: str
    layout: str
    loaded: int
    filled: list[str] = field(default_factory=list[str])
    missing: list[str] = field(default_factory=list[str])
    unexpected: list[str] = field(default_factory=list[str])
    reshaped: list[str] = field(default_factory=list[str])
    outside: list[str] = field(default_factory=list[str])
    input: InputSpec | None = None
    note: str = ""


def load_weights(model: FaceNetwork, path: str | os.PathLike[str], *, allow_mismatch: bool = False) -> WeightsReport:
    """Put the weights of a published file, or of our own model folder, into `model`.

    Files: .pt, .pth, .ckpt (also nested in a training checkpoint, behind prefixes such as `module.`), .safetensors,
    .onnx with the names of the 2017 networks. The layout is recognised by its names (`LAYOUTS`). Values are converted
    to the model's dtype; where a batch norm of ours has another eps than theirs, its running variance is shifted by
    the difference, so that evaluation is the same. Counters of batches may be missing.

    `report.input` says what pixels the published networks take, such as BGR for AdaFace's checkpoints.

    Raises `UserError`, and changes nothing, for a file that is damaged, would run code, or holds values that are not
    finite; and, unless `allow_mismatch`, where a tensor is missing, unexpected or of another shape. With it, what
    fits is loaded, which must be at least one tensor, and the report lists the rest.
    """
    checkpoint = read_checkpoint(Path(path))
    pairing = pair(checkpoint, model, path)
    report = _report(pairing, checkpoint, model, str(path))
    _refuse_mismatch(report, allow_mismatch)
    theirs = {norm: _their_eps(norm, pairing, checkpoint) for norm in norms(model)}
    values = moved_variances(pairing.values(), theirs, norms(model))
    on_meta = any(tensor.is_meta for tensor in pairing.state.values())
    model.load_state_dict(values, strict=False, assign=on_meta)
    return report


def _report(pairing: Pairing, checkpoint: Checkpoint, model: FaceNetwork, path: str) -> WeightsReport:
    layout = LAYOUTS[pairing.layout]
    spec = checkpoint.input or layout.input
    fitting = {name: bool(pairing.sources[name].names) for name in pairing.fitting() if not is_counter(name)}
    return WeightsReport(
        path=path,
        layout=pairing.layout,
        loaded=sum(fitting.values()),
        filled=[name for name, from_file in fitting.items() if not from_file],
        missing=pairing.missing(),
        unexpected=pairing.unexpected(),
        reshaped=pairing.reshaped(),
        outside=pairing.outside,
        input=replace(spec, size=model.image_size) if spec else None,
        note=layout.note,
    )


def _their_eps(norm: str, pairing: Pairing, checkpoint: Checkpoint) -> float | None:
    """What the file says itself, else the layout."""
    scale = pairing.sources.get(f"{norm}.weight")
    names = [pairing.prefix + name for name in scale.names] if scale else []
    stated = next((checkpoint.eps[name] for name in names if name in checkpoint.eps), None)
    return LAYOUTS[pairing.layout].eps(norm) if stated is None else stated


def _refuse_mismatch(report: WeightsReport, allowed: bool) -> None:
    """Raise `UserError` that lists what did not match, unless that is allowed and something did."""
    kinds = {
        "missing": report.missing,
        "not in the network": report.unexpected,
        "of another shape": report.reshaped,
    }
    found = [f"{len(names)} {kind}: {_shown(names)}" for kind, names in kinds.items() if names]
    if not found or (allowed and report.loaded):
        return
    raise UserError(
        f"{report.path} ({report.layout}) does not fit the network; {'; '.join(found)}; build the network that it was"
        " made for, or allow mismatch to load only what fits"
    )


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(name[:120] for name in names[:_SHOWN]) + more
