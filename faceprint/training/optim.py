"""Optimisers over network and classifier."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn


def make_optimizer(
    name: Literal["sgd", "adamw"],
    parameters: Iterable[nn.Parameter],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW whose first beta is `momentum`; one group, weight decay on all of it.

    The published systems decay every weight, norm scales and PReLU slopes included; so does this.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if name == "sgd":
        return torch.optim.SGD(trained, lr=lr, momentum=momentum, weight_decay=weight_decay, foreach=True)
    return torch.optim.AdamW(trained, lr=lr, betas=(momentum, 0.999), weight_decay=weight_decay, foreach=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group of `optimizer` this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
