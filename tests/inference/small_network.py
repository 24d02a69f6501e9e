"""A small MobileFaceNet with batch statistics that are not the initial ones, as a model folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from faceprint.data.pixels import InputSpec
from faceprint.inference.model_folder import ModelCard, save_model
from faceprint.models import FaceNetwork, create_model

OPTIONS = {"blocks": [1, 1, 1, 1], "scale": 1}
DIM = 24


def shake(network: FaceNetwork) -> FaceNetwork:
    """Give every batch norm moments, scale and shift of its own; in evaluation mode."""
    generator = torch.Generator().manual_seed(7)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 2.0),
                (module.weight.data, 0.7, 1.3),
                (module.bias.data, -0.2, 0.2),
            ):
                assert tensor is not None
                tensor.uniform_(low, high, generator=generator)
    return network.eval()


def small_network(size: tuple[int, int] = (112, 112)) -> FaceNetwork:
    torch.manual_seed(3)
    return shake(create_model("mbf", embedding_dim=DIM, image_size=size, **OPTIONS))


def small_card(**changes) -> ModelCard:
    facts = {"architecture": "mbf", "options": OPTIONS, "embedding_dim": DIM, "licence": "test", **changes}
    return ModelCard(**facts)


def write_model(folder: Path, **changes) -> Path:
    """A model folder; `changes` are fields of its card, `input` among them."""
    card = small_card(**changes)
    save_model(folder, small_network(card.input.size), card)
    return folder


def noise(count: int, size: tuple[int, int] = (112, 112), seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), np.uint8)


def by_hand(network: FaceNetwork, images: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float64]:
    """Unit embeddings, image by image and pixel by pixel as the definition has it."""
    rows = []
    for image in images:
        planes = [image[:, :, channel].astype(np.float64) for channel in ((0, 1, 2), (2, 1, 0))[spec.colour == "bgr"]]
        pixels = np.stack([(plane - spec.mean) / spec.std for plane in planes])[None].astype(np.float32)
        with torch.no_grad():
            row = network(torch.from_numpy(pixels)).numpy()[0].astype(np.float64)
        rows.append(row / np.sqrt((row**2).sum()))
    return np.array(rows)
