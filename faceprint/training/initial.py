"""First weights from elsewhere: `init_from`."""

from __future__ import annotations

from pathlib import Path

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from faceprint.classifier.state import PATTERN
from faceprint.errors import UserError
from faceprint.files import write_whole
from faceprint.inference.model_folder import TENSORS, find_model_folder
from faceprint.models import FaceNetwork
from faceprint.models.weights import load_weights
from faceprint.training.checkpoint import SHARED, list_checkpoints, load_part

CENTRES = "centres.safetensors"
MARGIN = "margin."
"""Of the classifier's state, what belongs to its margin."""


def start_from(path: Path, network: FaceNetwork, classifier: nn.Module, data: str) -> str:
    """Give `network` the weights in `path`, and `classifier` its centres where they are of the same people.

    `path` is a run folder, a model folder, or a file that `load_weights` reads; `data` is the fingerprint of the
    training set. Returns a clause that says what was taken. Raises `UserError` for weights that do not fit.
    """
    weights = find_model_folder(path) / TENSORS if path.is_dir() else path
    load_weights(network, weights)
    if not classifier.state_dict():  # a triplet loss has no centres
        return f"network from {path}"
    found = read_centres(path) if path.is_dir() else None
    if found is None:
        return f"network from {path}, new class centres"
    state, of_data = found
    if of_data != data:
        return f"network from {path}, new class centres (the people are others)"
    centres = {name: value for name, value in state.items() if not name.startswith(MARGIN)}
    # What a margin remembers is of its own training; another margin's would not fit.
    fresh = {name: value for name, value in classifier.state_dict().items() if name.startswith(MARGIN)}
    try:
        classifier.load_state_dict({**centres, **fresh})
    except RuntimeError as error:
        raise UserError(f"{path}: its class centres do not fit this margin or embedding_dim ({error})") from error
    return f"network and class centres from {path}"


def read_centres(folder: Path) -> tuple[dict[str, Tensor], str] | None:
    """The classifier's state in a folder that `write_centres` or a training wrote, and its data's fingerprint."""
    file = folder / CENTRES
    if file.is_file():
        try:
            with safetensors.safe_open(file, "pt") as opened:  # pyright: ignore[reportUnknownMemberType]
                state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
                return state, str((opened.metadata() or {}).get("data"))
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file}: not a readable file of class centres ({error})") from error
    saved = list_checkpoints(folder / "checkpoints")
    return read_checkpoint_centres(saved[-1]) if saved else None


def read_checkpoint_centres(path: Path) -> tuple[dict[str, Tensor], str] | None:
    """All classes of a checkpoint, whatever number of processes wrote it, with what the margin remembers."""
    shared = load_part(path / SHARED)
    if shared["classifier"] is None:
        return None
    parts = [safetensors.torch.load_file(file) for file in sorted(path.glob(PATTERN))]
    whole = {name: torch.cat([part[name] for part in parts]) for name in ("centres", "bias") if name in parts[0]}
    return {**whole, **shared["classifier"]["buffers"]}, shared["data"]


def write_centres(folder: Path, state: dict[str, Tensor], data: str) -> None:
    """Keep a classifier's state and the fingerprint of its data in `folder`."""
    contiguous = {name: tensor.contiguous() for name, tensor in state.items()}
    write_whole(folder / CENTRES, safetensors.torch.save(contiguous, {"data": data}))
