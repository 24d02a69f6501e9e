"""Inception-ResNet-v2 (arXiv 1602.07261) for faces, as in the 2017 InsightFace system.

Deviations from the paper are that system's: no pool after the third convolution and a "mixed 5b" of 320 channels, for
inputs of 112 pixels; 129 channels, not 128, before the 1x7 convolution, which is padded by (1, 2) and followed by a
7x1 padded by (2, 1). **Its convolutions also had biases, which the norm after each cancels; there are none here.**
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from faceprint.errors import UserError
from faceprint.models.network import FaceNetwork, attach_output, he_normal
from faceprint.models.norms import Norm
from faceprint.models.units import SqueezeExcite
from faceprint.registry import unknown

EPS_BODY = 1e-3
EPS_EMBEDDING = 2e-5
CHANNELS = 1536

Pair = int | tuple[int, int]


class Conv(NamedTuple):
    """Convolution - norm - ReLU."""

    channels: int
    kernel: Pair
    padding: Pair = 0
    stride: int = 1


def chain(in_channels: int, norm: Norm, *layers: Conv) -> nn.Sequential:
    """`layers` one after another."""
    modules: list[nn.Module] = []
    for layer in layers:
        conv = nn.Conv2d(in_channels, layer.channels, layer.kernel, layer.stride, layer.padding, bias=False)
        modules += [conv, norm(layer.channels), nn.ReLU()]
        in_channels = layer.channels
    return nn.Sequential(*modules)


class Mixed(nn.Module):
    """Branches side by side, all from one input; their channels are concatenated."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class Residual(nn.Module):
    """x + scale * norm(1x1 convolution(mixed(x))), then ReLU unless it is `last`; (B, C, h, w) to the same.

    `mixed` gives `inner` channels. With `se`, squeeze and excitation stands before the sum.
    """

    def __init__(
        self, channels: int, mixed: Mixed, inner: int, scale: float, norm: Norm, *, se: bool, last: bool = False
    ) -> None:
        super().__init__()
        self.mixed = mixed
        self.up = nn.Sequential(nn.Conv2d(inner, channels, 1, bias=False), norm(channels))
        self.se = SqueezeExcite(channels) if se else nn.Identity()
        self.scale = scale
        self.relu = nn.Identity() if last else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.scale * self.se(self.up(self.mixed(x))))


def stem_layers(norm: Norm, stride: int) -> nn.Sequential:
    layers = chain(3, norm, Conv(32, 3, 0, stride), Conv(32, 3), Conv(64, 3, 1), Conv(80, 1), Conv(192, 3))
    return layers.append(nn.MaxPool2d(3, 2))


def mixed_5b(norm: Norm) -> Mixed:
    """192 -> 320 channels."""
    return Mixed(
        chain(192, norm, Conv(96, 1)),
        chain(192, norm, Conv(48, 1), Conv(64, 5, 2)),
        chain(192, norm, Conv(64, 1), Conv(96, 3, 1), Conv(96, 3, 1)),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), chain(192, norm, Conv(64, 1))),
    )


def block35(norm: Norm, *, se: bool) -> Residual:
    mixed = Mixed(
        chain(320, norm, Conv(32, 1)),
        chain(320, norm, Conv(32, 1), Conv(32, 3, 1)),
        chain(320, norm, Conv(32, 1), Conv(48, 3, 1), Conv(64, 3, 1)),
    )
    return Residual(320, mixed, 128, 0.17, norm, se=se)


def reduction_17(norm: Norm) -> Mixed:
    """320 -> 1088 channels."""
    return Mixed(
        chain(320, norm, Conv(384, 3, 0, 2)),
        chain(320, norm, Conv(256, 1), Conv(256, 3, 1), Conv(384, 3, 0, 2)),
        nn.MaxPool2d(3, 2),
    )


def block17(norm: Norm, *, se: bool) -> Residual:
    mixed = Mixed(
        chain(1088, norm, Conv(192, 1)),
        chain(1088, norm, Conv(129, 1), Conv(160, (1, 7), (1, 2)), Conv(192, (7, 1), (2, 1))),
    )
    return Residual(1088, mixed, 384, 0.1, norm, se=se)


def reduction_8(norm: Norm) -> Mixed:
    """1088 -> 2080 channels."""
    return Mixed(
        chain(1088, norm, Conv(256, 1), Conv(384, 3, 0, 2)),
        chain(1088, norm, Conv(256, 1), Conv(288, 3, 0, 2)),
        chain(1088, norm, Conv(256, 1), Conv(288, 3, 1), Conv(320, 3, 0, 2)),
        nn.MaxPool2d(3, 2),
    )


def block8(norm: Norm, *, se: bool, scale: float = 0.2, last: bool = False) -> Residual:
    mixed = Mixed(
        chain(2080, norm, Conv(192, 1)),
        chain(2080, norm, Conv(192, 1), Conv(224, (1, 3), (0, 1)), Conv(256, (3, 1), (1, 0))),
    )
    return Residual(2080, mixed, 448, scale, norm, se=se, last=last)


def inception_resnet_backbone(norm: Norm, *, blocks: tuple[int, int, int], large_stem: bool, se: bool) -> nn.Sequential:
    """(B, 3, H, W) -> (B, 1536, h, w), of which `map_size` gives h and w."""
    return nn.Sequential(
        stem_layers(norm, 1 if large_stem else 2),
        mixed_5b(norm),
        *(block35(norm, se=se) for _ in range(blocks[0])),
        reduction_17(norm),
        *(block17(norm, se=se) for _ in range(blocks[1])),
        reduction_8(norm),
        *(block8(norm, se=se) for _ in range(blocks[2])),
        block8(norm, se=se, scale=1.0, last=True),
        chain(2080, norm, Conv(CHANNELS, 1)),
    )


def map_size(image_size: tuple[int, int], *, large_stem: bool) -> tuple[int, int]:
    """Height and width of the last map. Raises `UserError` for an image of which nothing is left.

    The layers that take away from a side are 3 wide and unpadded: the first, second and fifth convolution, the pool
    after them, and the two reductions.
    """
    height, width = (_side(pixels, (1 if large_stem else 2, 1, 1, 2, 2, 2)) for pixels in image_size)
    if min(height, width) < 1:
        raise UserError(
            f"image_size {image_size[0]}x{image_size[1]} is too small for this network:"
            f" at least {21 if large_stem else 39} pixels each way"
        )
    return height, width


def _side(pixels: int, strides: tuple[int, ...]) -> int:
    for stride in strides:
        pixels = (pixels - 3) // stride + 1
    return pixels


def inception_resnet(
    *,
    stem: Literal["L", "s2"] = "s2",
    se: bool = False,
    blocks: tuple[int, int, int] = (10, 20, 9),
    embedding_dim: int | None = None,
    image_size: tuple[int, int] = (112, 112),
    output: str = "AD",
    norm: str = "bn",
    norm_options: Mapping[str, Any] | None = None,
) -> FaceNetwork:
    """Inception-ResNet-v2; `stem` "s2" halves the resolution in the first convolution, "L" keeps it.

    `se` adds squeeze and excitation to each residual branch; `blocks` are the numbers of block35, block17 and block8,
    of which one more without activation comes last. The scales of the body's norms are fixed at 1, as
    published; their eps is 1e-3, that of the norms in the output option 2e-5. Convolutions and linear layers start
    He-normal (fan out).
    """
    if stem not in ("L", "s2"):
        raise unknown("stem", stem, ["L", "s2"])
    options = norm_options or {}
    body = Norm(norm, EPS_BODY, options, learned_scale=False)
    network = attach_output(
        inception_resnet_backbone(body, blocks=blocks, large_stem=stem == "L", se=se),
        output,
        channels=CHANNELS,
        map_size=map_size(image_size, large_stem=stem == "L"),
        image_size=image_size,
        embedding_dim=embedding_dim,
        norm=Norm(norm, EPS_EMBEDDING, options),
    )
    he_normal(network)
    return network
