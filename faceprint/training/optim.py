"""Optimisers over network and classifier, and what changes from step to step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from faceprint.classifier import HeadOptimizers


def make_optimizer(
    name: Literal["sgd", "adamw"],
    parameters: Iterable[nn.Parameter],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    undecayed: Iterable[nn.Parameter] = (),
    undecayed_lr_factor: float = 1.0,
) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW whose first beta is `momentum`; weight decay on all but the `undecayed`.

    The published systems decay every weight, norm scales and PReLU slopes included; so does this. The `undecayed`
    (the mixing logits of SN) are among `parameters` and make the last group, which `undecayed_lr_factor` times the
    learning rate trains.
    """
    apart = {id(parameter) for parameter in undecayed}
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": [parameter for parameter in trained if id(parameter) not in apart]}]
    if apart:
        logits = [parameter for parameter in trained if id(parameter) in apart]
        factor = undecayed_lr_factor
        groups.append({"params": logits, "weight_decay": 0.0, "lr": lr * factor, "lr_factor": factor})
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, weight_decay=weight_decay, foreach=True)
    return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999), weight_decay=weight_decay, foreach=True)


def set_learning_rate(optimizer: torch.optim.Optimizer | HeadOptimizers, lr: float) -> None:
    """Give every group of `optimizer` this learning rate, times its own `lr_factor` where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scaler: torch.amp.GradScaler) -> Tensor:
        ctx.scaler = scaler
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.scaler.scale(grads[0]), None


def scale_gradient(x: Tensor, scaler: torch.amp.GradScaler) -> Tensor:
    """`x` itself; its gradient is multiplied by the loss scale."""
    return _ScaleGradient.apply(x, scaler)  # pyright: ignore[reportReturnType]


def clip_gradients(gradients: list[Tensor], clip_norm: float) -> None:
    """Scale `gradients` down, in place, where their common length is above `clip_norm`."""
    total = nn.utils.get_total_norm(gradients)
    factor = (clip_norm / (total + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor)


def set_options(margin: nn.Module, options: Mapping[str, float]) -> None:
    """Give these options of `margin`, which are attributes of the same name, these values."""
    for name, value in options.items():
        setattr(margin, name, value)
