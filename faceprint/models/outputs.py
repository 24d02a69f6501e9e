"""Output options: the layers that turn the last feature map (B, C, h, w) into an embedding (B, D).

A builder takes `(channels, (h, w), embedding_dim, eps)`. Nothing here assumes 7x7: sizes follow the input.
The last fully connected layer runs in float32 under mixed precision: its inputs are tens of thousands of values wide,
and the embedding's direction is what everything downstream compares.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from faceprint.registry import Table

Builder = Callable[[int, tuple[int, int], int, float], nn.Module]


class Float32Linear(nn.Linear):
    """A linear layer computed in float32 whatever autocast says; (…, in) -> (…, out) float32."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


def embedding_norm(embedding_dim: int, eps: float) -> nn.BatchNorm1d:
    """The last batch norm of options C-F: its scale is fixed at 1, only the shift is learned."""
    norm = nn.BatchNorm1d(embedding_dim, eps=eps)
    norm.weight.requires_grad_(False)
    return norm


class BnDropoutFcBn(nn.Module):
    """Option E: BN - dropout - FC - BN on the flattened last map (2017 InsightFace; iresnet's head)."""

    def __init__(
        self, channels: int, map_size: tuple[int, int], embedding_dim: int, eps: float, dropout: float
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=eps)
        self.dropout = nn.Dropout(dropout)
        self.fc = Float32Linear(channels * map_size[0] * map_size[1], embedding_dim)
        self.features = embedding_norm(embedding_dim, eps)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, D) float32."""
        return self.features(self.fc(self.dropout(self.norm(maps)).flatten(1)))


class GlobalDepthwise(nn.Module):
    """GDC of MobileFaceNet (arXiv 1804.07573): depthwise convolution over the whole map - BN - FC - BN.

    The last norm is plain: its scale is learned, as in the published arcface_torch `mbf`.
    """

    def __init__(self, channels: int, map_size: tuple[int, int], embedding_dim: int, eps: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, map_size, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels, eps=eps)
        self.fc = Float32Linear(channels, embedding_dim, bias=False)
        self.features = nn.BatchNorm1d(embedding_dim, eps=eps)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, D) float32."""
        return self.features(self.fc(self.norm(self.conv(maps)).flatten(1)))


def _option_e(channels: int, map_size: tuple[int, int], embedding_dim: int, eps: float) -> nn.Module:
    return BnDropoutFcBn(channels, map_size, embedding_dim, eps, dropout=0.4)


def _option_fc(channels: int, map_size: tuple[int, int], embedding_dim: int, eps: float) -> nn.Module:
    return BnDropoutFcBn(channels, map_size, embedding_dim, eps, dropout=0.0)


OUTPUTS: Table[Builder] = Table("output option", [("E", _option_e), ("FC", _option_fc), ("GDC", GlobalDepthwise)])
