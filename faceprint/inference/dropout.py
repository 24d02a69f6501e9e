"""A network with dropout left on: what SER-FIQ asks several times."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from faceprint.device import resolve_device
from faceprint.errors import UserError
from faceprint.inference.hub import local_model
from faceprint.inference.model_folder import load_model

Floats = NDArray[np.float32]


def dropout_features(model: str, device: str = "auto", seed: int = 0) -> Callable[[Floats], Floats]:
    """float32 (B, 3, H, W) -> raw embeddings (B, D) of the network in the folder `model`, dropout on, all else as ever.

    `seed` is set once, here. Raises `UserError` for an ONNX file, which has no dropout, and a network without.
    """
    place = local_model(model)
    if place.suffix.lower() == ".onnx":
        raise UserError(f"{model}: an ONNX file has no dropout; give a run or model folder, or another quality")
    network, where = load_model(place)[0], resolve_device(device)
    dropouts = [
        module for module in network.modules() if isinstance(module, nn.Dropout | nn.Dropout2d) and module.p > 0
    ]
    if not dropouts:
        raise UserError(f"{model}: the network has no dropout to vary; choose another quality, such as norm")
    network.to(where).eval()
    for module in dropouts:
        module.train()
    torch.manual_seed(seed)
    return lambda batch: _run(network, batch, where)


def _run(network: nn.Module, batch: Floats, device: torch.device) -> Floats:
    with torch.inference_mode():
        return network(torch.from_numpy(batch).to(device)).float().cpu().numpy()
