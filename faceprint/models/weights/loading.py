"""Published weights into a network of ours: everything is checked first, then assigned."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.models.network import FaceNetwork
from faceprint.models.weights.checkpoint import Checkpoint
from faceprint.models.weights.eps import moved_variances, norms
from faceprint.models.weights.layout import Source
from faceprint.models.weights.layouts import LAYOUTS, recognise
from faceprint.models.weights.reading import read_checkpoint

_COUNTER = "num_batches_tracked"
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class WeightsReport:
    """What `load_weights` found.

    `layout`: the row of `LAYOUTS`. `loaded`: number of our tensors taken from the file, counters of batches not counted. `filled`: ours that the code
    base has no tensor for, set to what computes the same. `missing`: named in our way where that code base has no
    place for it, in the file's way where only the file lacks it. `unexpected`: in the file and not in our network;
    `reshaped`: of another shape. These three are empty unless mismatch was allowed. `outside`: in the file, but no
    part of a backbone, such as class centres. `input`: what the network takes, None where nothing says; `note`: what
    else to know.
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
    layout, prefix = recognise(checkpoint.tensors, path)
    inside = {
        name.removeprefix(prefix): tensor for name, tensor in checkpoint.tensors.items() if name.startswith(prefix)
    }
    sources = LAYOUTS[layout].sources(model)
    state = model.state_dict()
    there = {name: source for name, source in sources.items() if all(need in inside for need in source.names)}
    fitting = {name: source for name, source in there.items() if source.fits(inside, state[name])}
    report = WeightsReport(
        path=str(path),
        layout=layout,
        loaded=sum(bool(source.names) and not name.endswith(_COUNTER) for name, source in fitting.items()),
        filled=[name for name, source in fitting.items() if not source.names],
        missing=_missing(state, sources, inside),
        unexpected=_unexpected(sources, inside),
        reshaped=[_shapes(there[name], inside, state[name]) for name in there if name not in fitting],
        outside=[name for name in checkpoint.tensors if not name.startswith(prefix)],
        input=_input(checkpoint, layout, model),
        note=LAYOUTS[layout].note,
    )
    _refuse_mismatch(report, allow_mismatch)
    values = {name: source.value(inside, state[name]) for name, source in fitting.items()}
    theirs = {norm: _their_eps(norm, sources, checkpoint, prefix) or LAYOUTS[layout].eps(norm) for norm in norms(model)}
    on_meta = any(tensor.is_meta for tensor in state.values())
    model.load_state_dict(moved_variances(values, theirs, norms(model)), strict=False, assign=on_meta)
    return report


def _missing(state: Mapping[str, Tensor], sources: Mapping[str, Source], inside: Mapping[str, Tensor]) -> list[str]:
    wanted = ((name, sources[name].names if name in sources else (name,)) for name in state)
    return [
        need
        for name, needs in wanted
        for need in needs
        if (name not in sources or need not in inside) and not name.endswith(_COUNTER)
    ]


def _unexpected(sources: Mapping[str, Source], inside: Mapping[str, Tensor]) -> list[str]:
    wanted = {name for source in sources.values() for name in source.names}
    return [name for name in inside if name not in wanted and not name.endswith(_COUNTER)]


def _shapes(source: Source, inside: Mapping[str, Tensor], ours: Tensor) -> str:
    given = " and ".join(f"{name} {tuple(inside[name].shape)}" for name in source.names)
    return f"{given}, the network has {tuple(ours.shape)}"


def _input(checkpoint: Checkpoint, layout: str, model: FaceNetwork) -> InputSpec | None:
    spec = checkpoint.input or LAYOUTS[layout].input
    return replace(spec, size=model.image_size) if spec else None


def _their_eps(norm: str, sources: Mapping[str, Source], checkpoint: Checkpoint, prefix: str) -> float | None:
    """What the file itself says."""
    scale = sources.get(f"{norm}.weight")
    return next((checkpoint.eps.get(prefix + name) for name in scale.names), None) if scale else None


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
