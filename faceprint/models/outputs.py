"""Output options: the layers that turn the last feature map (B, C, h, w) into an embedding (B, D) float32.

Options A to G are those of the 2017 InsightFace system. Nothing here assumes 7x7: sizes follow the input. The fully
connected layer runs in float32 under mixed precision: its inputs are tens of thousands of values wide, and the
embedding's direction is what everything downstream compares.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from faceprint.models.norms import Norm
from faceprint.registry import Table

MapSize = tuple[int, int]
Builder = Callable[[int, MapSize, int, Norm], nn.Module]
"""`(channels, (h, w), embedding_dim, norm)` -> module from (B, C, h, w) to (B, D) float32."""

POOL_DROPOUT = 0.2
FC_DROPOUT = 0.4


@dataclass(frozen=True)
class OutputOption:
    """`build` makes the layers; `fixed_dim` says what D is where no layer can choose it, None where one can."""

    build: Builder
    fixed_dim: Callable[[int, MapSize], int | None] = lambda _channels, _size: None


class Float32Linear(nn.Linear):
    """A linear layer computed in float32 whatever autocast says; (…, in) -> (…, out) float32."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


class Float32PReLU(nn.PReLU):
    """PReLU in float32 whatever autocast says, which would round to fewer digits; (B, D) -> (B, D) float32."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


class InFloat32(nn.Module):
    """The maps as float32: for options without a linear layer of their own."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.float()


class NormAwarePool(nn.Module):
    """GNAP: places are weighted so that all have the same length, then averaged; (B, C, h, w) -> (B, C, 1, 1).

    x * mean(|x|) / |x|, |x| being the length over channels at one place. InsightFace's GNAP (2018).
    """

    def forward(self, maps: Tensor) -> Tensor:
        length = maps.float().norm(dim=1, keepdim=True).clamp_min(1e-6)
        return (maps * (length.mean(dim=(2, 3), keepdim=True) / length)).mean(dim=(2, 3), keepdim=True)


def pooled(layers: str, dropout: float) -> Builder:
    """Options A, B, C and D: norm - PReLU - global average pool - dropout, then `layers` of fc, norm and prelu."""

    def build(channels: int, map_size: MapSize, embedding_dim: int, norm: Norm) -> nn.Module:
        parts: dict[str, nn.Module] = {
            "norm": norm(channels),
            "prelu": nn.PReLU(channels),
            "pool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
        }
        if dropout:
            parts["dropout"] = nn.Dropout(dropout)
        made: dict[str, Callable[[], nn.Module]] = {
            "fc": lambda: Float32Linear(channels, embedding_dim),
            "features": lambda: norm.embedding(embedding_dim, learned_scale=False),
            "activation": lambda: Float32PReLU(embedding_dim),
        }
        parts.update({name: made[name]() for name in layers.split()} if layers else {"float32": InFloat32()})
        return nn.Sequential(OrderedDict(parts))

    return build


def flattened(*, prelu: bool, dropout: float) -> Builder:
    """Options E and F: norm - (PReLU) - dropout - FC - norm on the whole last map."""

    def build(channels: int, map_size: MapSize, embedding_dim: int, norm: Norm) -> nn.Module:
        parts: dict[str, nn.Module] = {"norm": norm(channels)}
        if prelu:
            parts["prelu"] = nn.PReLU(channels)
        if dropout:
            parts["dropout"] = nn.Dropout(dropout)
        parts["flatten"] = nn.Flatten()
        parts["fc"] = Float32Linear(channels * map_size[0] * map_size[1], embedding_dim)
        parts["features"] = norm.embedding(embedding_dim, learned_scale=False)
        return nn.Sequential(OrderedDict(parts))

    return build


def global_depthwise(channels: int, map_size: MapSize, embedding_dim: int, norm: Norm) -> nn.Module:
    """GDC of MobileFaceNet (arXiv 1804.07573): depthwise convolution over the whole map - norm - FC - norm.

    The last norm is plain: its scale is learned, as in the published arcface_torch `mbf`.
    """
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels, channels, map_size, groups=channels, bias=False),
            norm=norm(channels),
            flatten=nn.Flatten(),
            fc=Float32Linear(channels, embedding_dim, bias=False),
            features=norm.embedding(embedding_dim),
        )
    )


def norm_aware(channels: int, map_size: MapSize, embedding_dim: int, norm: Norm) -> nn.Module:
    """GNAP: norm - norm-aware pool - FC where D is not C - norm; no scale is learned."""
    parts: dict[str, nn.Module] = {"norm": norm(channels), "pool": NormAwarePool(), "flatten": nn.Flatten()}
    if embedding_dim != channels:
        parts["fc"] = Float32Linear(channels, embedding_dim, bias=False)
    parts["float32"] = InFloat32()
    parts["features"] = norm.embedding(embedding_dim, learned_scale=False)
    return nn.Sequential(OrderedDict(parts))


def whole_map(channels: int, map_size: MapSize, embedding_dim: int, norm: Norm) -> nn.Module:
    """Option Z: norm - dropout; the flattened map is the embedding."""
    return nn.Sequential(
        OrderedDict(norm=norm(channels), dropout=nn.Dropout(FC_DROPOUT), flatten=nn.Flatten(), float32=InFloat32())
    )


def _channels(channels: int, map_size: MapSize) -> int:
    return channels


def _places(channels: int, map_size: MapSize) -> int:
    return channels * map_size[0] * map_size[1]


_A, _B, _C, _D = "", "fc", "fc features", "fc features activation"

OUTPUTS: Table[OutputOption] = Table(
    "output option",
    [
        ("A", OutputOption(pooled(_A, 0), _channels)),
        ("B", OutputOption(pooled(_B, 0))),
        ("C", OutputOption(pooled(_C, 0))),
        ("D", OutputOption(pooled(_D, 0))),
        ("AD", OutputOption(pooled(_A, POOL_DROPOUT), _channels)),
        ("BD", OutputOption(pooled(_B, POOL_DROPOUT))),
        ("CD", OutputOption(pooled(_C, POOL_DROPOUT))),
        ("DD", OutputOption(pooled(_D, POOL_DROPOUT))),
        ("AX", OutputOption(pooled(_A, POOL_DROPOUT), _channels)),
        ("BX", OutputOption(pooled(_B, POOL_DROPOUT))),
        ("CX", OutputOption(pooled(_C, POOL_DROPOUT))),
        ("DX", OutputOption(pooled(_D, POOL_DROPOUT))),
        ("E", OutputOption(flattened(prelu=False, dropout=FC_DROPOUT))),
        ("F", OutputOption(flattened(prelu=True, dropout=FC_DROPOUT))),
        ("G", OutputOption(pooled(_B, POOL_DROPOUT))),
        ("FC", OutputOption(flattened(prelu=False, dropout=0))),
        ("GAP", OutputOption(pooled(_C, 0))),
        ("GDC", OutputOption(global_depthwise)),
        ("GNAP", OutputOption(norm_aware)),
        ("Z", OutputOption(whole_map, _places)),
    ],
)
"""`AX` is another spelling of `AD`, and so on; `G` is `BD`; `GAP` is `C` by its later name."""
