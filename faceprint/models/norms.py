"""Normalisation layers by name, for (B, C, H, W)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from faceprint.registry import Table


@dataclass(frozen=True)
class Norm:
    """What a network is built with: `norm(C)` makes a layer for maps, `norm.embedding(D)` one for embeddings (B, D).

    `eps` stands under the root beside the variance. Embeddings have no places to take statistics over: whatever maps
    are normalised by, they get a batch norm. Without `learned_scale` the scale of a map's norm stays at 1.
    """

    name: str
    eps: float
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    learned_scale: bool = True

    def __call__(self, num_features: int) -> nn.Module:
        layer = NORMS[self.name](num_features, self.eps, **self.options)
        if not self.learned_scale and isinstance(layer.weight, nn.Parameter):
            layer.weight.requires_grad_(False)
        return layer

    def embedding(self, embedding_dim: int, *, learned_scale: bool = True) -> nn.Module:
        layer = nn.BatchNorm1d(embedding_dim, eps=self.eps)
        layer.weight.requires_grad_(learned_scale)
        return layer


def batch_norm(num_features: int, eps: float) -> nn.Module:
    """BatchNorm2d with running moments, momentum 0.1 of the new value (0.9 of the old in the 2017 convention)."""
    return nn.BatchNorm2d(num_features, eps=eps)


NORMS: Table[Callable[[int, float], nn.Module]] = Table("norm", [("bn", batch_norm)])
