"""Optimisers over network and classifier, and what changes from step to step."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from faceprint.classifier import HeadOptimizers
from faceprint.errors import UserError


def make_optimizer(
    name: Literal["sgd", "adamw"],
    network: nn.Module,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    undecayed: Iterable[nn.Parameter] = (),
    undecayed_lr_factor: float = 1.0,
    lr_factors: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW whose first beta is `momentum`; weight decay on all but the `undecayed`.

    The published systems decay every weight, norm scales and PReLU slopes included; so does this. The `undecayed`
    (the mixing logits of SN) get `undecayed_lr_factor` times the learning rate, and every weight that a pattern of
    `lr_factors` matches by its name gets that factor; weights of one rate and decay are one group. Raises `UserError`
    for a pattern that matches no weight.
    """
    apart = {id(parameter) for parameter in undecayed}
    factors = lr_factors or {}
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    for pattern in factors:
        if not fnmatch.filter(trained, pattern):
            raise UserError(f"optimizer.lr_factors: no weight of the network matches {pattern!r}")
    for weight, parameter in trained.items():
        logits = id(parameter) in apart
        matching = [factor for pattern, factor in factors.items() if fnmatch.fnmatchcase(weight, pattern)]
        factor = (matching[-1] if matching else 1.0) * (undecayed_lr_factor if logits else 1.0)
        groups.setdefault((logits, factor), []).append(parameter)
    described: list[dict[str, Any]] = [
        {"params": members, "lr_factor": factor, **({"weight_decay": 0.0} if logits else {})}
        for (logits, factor), members in sorted(groups.items(), key=lambda item: (item[0][0], -item[0][1]))
    ]
    if name == "sgd":
        return torch.optim.SGD(described, lr=lr, momentum=momentum, weight_decay=weight_decay, foreach=True)
    return torch.optim.AdamW(described, lr=lr, betas=(momentum, 0.999), weight_decay=weight_decay, foreach=True)


def set_learning_rate(optimizer: torch.optim.Optimizer | HeadOptimizers, lr: float, *, thawed: bool = False) -> None:
    """Give every group of `optimizer` this learning rate, times its own `lr_factor`; 0 counts as 1 when `thawed`."""
    for group in optimizer.param_groups:
        factor = group.get("lr_factor", 1.0)
        group["lr"] = lr * (1.0 if thawed and factor == 0 else factor)


def drop_frozen(optimizer: torch.optim.Optimizer) -> None:
    """Forget the gradients of weights that do not train in this step, so that they gather no momentum."""
    for group in optimizer.param_groups:
        if group["lr"] == 0:
            for parameter in group["params"]:
                parameter.grad = None


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


def clip_gradients(gradients: list[Tensor], norm: Tensor, clip_norm: float) -> None:
    """Scale `gradients` down, in place, where their common length `norm` is above `clip_norm`."""
    factor = (clip_norm / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor)


def set_options(margin: nn.Module, options: Mapping[str, float]) -> None:
    """Give these options of `margin`, which are attributes of the same name, these values."""
    for name, value in options.items():
        setattr(margin, name, value)
