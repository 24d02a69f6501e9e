"""Normalisation layers by name, for maps (B, C, H, W)."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceprint.errors import UserError
from faceprint.models.moments import shared_batch_norm
from faceprint.models.switch_norm import MOMENTUM, SwitchNorm2d, SyncSwitchNorm2d
from faceprint.registry import Table, unknown

__all__ = [
    "NORMS",
    "FrozenBatchNorm2d",
    "Norm",
    "SharedBatchNorm",
    "SwitchNorm2d",
    "SyncSwitchNorm2d",
]

GROUPS = 32
"""Groups of GroupNorm, as in its paper (arXiv 1803.08494), or as many of them as divide the channels evenly."""


class SharedBatchNorm(nn.Module):
    """Batch norm whose moments are those of all processes' images, or of `stat_group` images, see `over_images`.

    (B, C, H, W) or (B, C) -> the same, in x's dtype. Works on any backend, gradients included: on k processes it is
    `BatchNorm2d` on the concatenated batch, batches of unequal size too. Evaluation takes the running moments.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, *, sync: bool, stat_group: int | None = None) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = MOMENTUM
        self.sync = sync
        self.stat_group = stat_group
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        maps = x if x.dim() == 4 else x[:, :, None, None]
        return shared_batch_norm(maps, self).view_as(x)

    def plain(self) -> nn.Module:
        """This layer as torch's `BatchNorm2d` for evaluation, sharing its weights."""
        layer = nn.BatchNorm2d(self.num_features, self.eps)
        layer.weight, layer.bias = self.weight, self.bias
        layer.running_mean, layer.running_var = self.running_mean, self.running_var
        return layer.train(self.training)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, sync={self.sync}, stat_group={self.stat_group}"


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that keeps its moments, scale and shift as they were loaded: for fine-tuning on little data."""

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__(num_features, eps=eps)
        for parameter in (self.weight, self.bias):
            parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> FrozenBatchNorm2d:
        super().train(False)
        return self


def batch_norm(num_features: int, eps: float, *, stat_group: int | None = None) -> nn.Module:
    """`BatchNorm2d`, momentum 0.1 of the new value; with `stat_group` the moments are those of so many images."""
    if stat_group is None:
        return nn.BatchNorm2d(num_features, eps=eps)
    return SharedBatchNorm(num_features, eps, sync=False, stat_group=stat_group)


def group_norm(num_features: int, eps: float, *, groups: int = GROUPS) -> nn.Module:
    """`GroupNorm` of `groups` groups, or the greatest common divisor of that and the channels."""
    return nn.GroupNorm(math.gcd(groups, num_features), num_features, eps)


def layer_norm(num_features: int, eps: float) -> nn.Module:
    """One mean and variance for each image: `GroupNorm` of one group."""
    return nn.GroupNorm(1, num_features, eps)


def instance_norm(num_features: int, eps: float) -> nn.Module:
    """One mean and variance for each image and channel, with scale and shift."""
    return nn.InstanceNorm2d(num_features, eps, affine=True)


NORMS: Table[Callable[..., nn.Module]] = Table(
    "norm",
    [
        ("bn", batch_norm),
        ("syncbn", partial(SharedBatchNorm, sync=True)),
        ("gn", group_norm),
        ("in", instance_norm),
        ("ln", layer_norm),
        ("sn", SwitchNorm2d),
        ("syncsn", SyncSwitchNorm2d),
        ("frozen", FrozenBatchNorm2d),
    ],
)
"""Name -> `(num_features, eps, **options)`. Options: `stat_group` of bn, syncbn, sn and syncsn, `argmax` and
`sparsest` of sn and syncsn, `groups` of gn."""


@dataclass(frozen=True)
class Norm:
    """What a network is built with: `norm(C)` makes a layer for maps, `norm.embedding(D)` one for embeddings (B, D).

    `eps` stands under the root beside the variance, `options` are those of the table's row. Without `learned_scale`
    the scale of a map's norm stays at 1. Raises `UserError` for an unknown name or option.
    """

    name: str
    eps: float
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    learned_scale: bool = True

    def __post_init__(self) -> None:
        allowed = [name for name in inspect.signature(NORMS[self.name]).parameters if name not in _NOT_OPTIONS]
        for option in self.options:
            if option not in allowed:
                raise unknown(f"option of norm {self.name!r}", option, allowed)
        group = self.options.get("stat_group")
        if group is not None and (not isinstance(group, int) or group < 1):
            raise UserError(f"stat_group={group!r}: give the number of images that share statistics, at least 1")

    def __call__(self, num_features: int) -> nn.Module:
        layer = NORMS[self.name](num_features, self.eps, **self.options)
        if not self.learned_scale and isinstance(layer.weight, nn.Parameter):
            layer.weight.requires_grad_(False)
        return layer

    def embedding(self, embedding_dim: int, *, learned_scale: bool = True) -> nn.Module:
        """A batch norm, whatever the maps are normalised by: embeddings have no places to take statistics over.

        It is synchronised where the maps' norm is.
        """
        sync = self.name.startswith("sync")
        layer = SharedBatchNorm(embedding_dim, self.eps, sync=True) if sync else nn.BatchNorm1d(embedding_dim, self.eps)
        layer.weight.requires_grad_(learned_scale)
        return layer


_NOT_OPTIONS = ("num_features", "eps", "sync")


def plain_norms(backbone: nn.Module) -> None:
    """Replace, in place, each norm of maps that in evaluation is one of torch's own by that one, sharing its weights.

    It computes the same; folding and exporting then see what they know. Hardened SN, and batch norms with shared
    statistics.
    """
    for name, module in list(backbone.named_modules()):
        if isinstance(module, SwitchNorm2d | SharedBatchNorm):
            backbone.set_submodule(name, module.plain())


def mixing_logits(network: nn.Module) -> list[nn.Parameter]:
    """The logits of all SN layers, which are trained without weight decay: it would pull every mixture to thirds."""
    return [
        logits
        for module in network.modules()
        if isinstance(module, SwitchNorm2d)
        for logits in (module.mean_logits, module.var_logits)
    ]


def sparsest_layers(network: nn.Module) -> list[SwitchNorm2d]:
    """The SN layers that come to their choice by SparsestMax."""
    return [module for module in network.modules() if isinstance(module, SwitchNorm2d) and module.sparsest]
