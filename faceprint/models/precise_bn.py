"""Running moments measured again, exactly, by a pass over data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from faceprint.errors import UserError


@torch.no_grad()
def precise_bn(model: nn.Module, loader: Iterable[Tensor]) -> int:
    """Set the running moments of all batch and switchable norms to those over the whole of `loader`.

    `loader` gives network inputs (B, 3, H, W), batches of one size, on the model's device. The mean is the average of
    the batches' means; the variance is theirs pooled: average of (var_k + mean_k^2) - mean^2, in float64. A moving
    average instead lags behind the weights and weighs the last few batches. The model keeps its mode; weights do not
    change. Returns the number of batches; raises `UserError` where there is none.
    """
    layers: list[Any] = [
        module for module in model.modules() if isinstance(getattr(module, "running_mean", None), Tensor)
    ]
    momenta = [layer.momentum for layer in layers]
    modes = {module: module.training for module in model.modules()}
    sums = [torch.zeros(2, len(layer.running_mean), dtype=torch.float64) for layer in layers]
    batches = 0
    model.train()
    try:
        for layer in layers:
            layer.momentum = 1.0  # running moments become the batch's own
        for images in loader:
            model(images)
            batches += 1
            for total, layer in zip(sums, layers, strict=True):
                mean, var = layer.running_mean.double().cpu(), layer.running_var.double().cpu()
                total += torch.stack([mean, var + mean.square()])
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    if batches == 0:
        raise UserError("precise_bn needs at least one batch")
    for total, layer in zip(sums, layers, strict=True):
        mean, square = total / batches
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(square - mean.square())
    return batches
