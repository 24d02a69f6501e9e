"""Normalisation layers by name. A factory takes `(num_features, eps)` and returns a module for (B, C, H, W)."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from faceprint.registry import Table

Norm = Callable[[int], nn.Module]
"""What a network is built with: number of channels -> normalisation layer; the name and eps are bound already."""


def batch_norm(num_features: int, eps: float) -> nn.Module:
    """BatchNorm2d with running moments, momentum 0.1 of the new value (0.9 of the old in the 2017 convention)."""
    return nn.BatchNorm2d(num_features, eps=eps)


NORMS: Table[Callable[[int, float], nn.Module]] = Table("norm", [("bn", batch_norm)])


def make_norm(name: str, eps: float) -> Norm:
    """The factory `num_features -> layer` for a norm of the table; an unknown name lists the choices."""
    factory = NORMS[name]
    return lambda num_features: factory(num_features, eps)
