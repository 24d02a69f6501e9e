"""Weights of the loss by how many images a class has, for long-tailed data."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceprint.errors import UserError


def inverse_frequency(counts: NDArray[np.int64], power: float) -> Tensor:
    """Weights n_c^-`power` of classes with `counts` (C,) images: float32 (C,), mean 1 over the images.

    `power` 0..1: 0 weighs every image alike, 1 every class. Raises `UserError` outside this range.
    """
    if not 0 <= power <= 1:
        raise UserError(f"class_weight_power {power}: lies in 0 .. 1")
    return _mean_one(np.maximum(counts, 1) ** -float(power), counts)


def effective_number(counts: NDArray[np.int64], beta: float) -> Tensor:
    """Weights (1 - β) / (1 - β^n_c) of classes with `counts` (C,) images: float32 (C,), mean 1 over the images.

    The inverse of the effective number of images (Cui et al., arXiv 1901.05555, proposition 1): `beta` 0 weighs every
    image alike, near 1 every class. **The paper scales the weights to the sum C over classes.** 0 <= β < 1. Raises
    `UserError` outside this range.
    """
    if not 0 <= beta < 1:
        raise UserError(f"class_weight_beta {beta}: lies in [0, 1)")
    return _mean_one((1.0 - beta) / (1.0 - beta ** np.maximum(counts, 1).astype(np.float64)), counts)


def _mean_one(weights: NDArray[np.float64], counts: NDArray[np.int64]) -> Tensor:
    """Scaled so that the mean over all images is 1: the learning rate means what it meant without weights."""
    return torch.from_numpy(weights * (counts.sum() / (weights * counts).sum())).float()
