"""A small MobileFaceNet with batch statistics that are not the initial ones, as a model folder."""

from __future__ import annotations

from pathlib import Path

import cv2
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
    """Give every batch norm a scale and shift of its own, and moments of images; in evaluation mode.

    Without the moments all embeddings would be nearly the same, and comparing them would show nothing.
    """
    generator = torch.Generator().manual_seed(7)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.weight.data.uniform_(0.7, 1.3, generator=generator)
            module.bias.data.uniform_(-0.2, 0.2, generator=generator)
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.from_numpy(InputSpec().prepare(patches(8, network.image_size, seed=9))))
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


def noise(count: int, size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), np.uint8)


def patches(count: int, size: tuple[int, int] = (112, 112), seed: int = 0) -> NDArray[np.uint8]:
    """Smooth patches of colour, 4x3 of them an image: unlike noise, of which a network sees the mean."""
    small = noise(count, (4, 3), seed)
    return np.stack([cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR) for image in small])


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
