"""MobileFaceNet (Chen et al., arXiv 1804.07573) in the layout of arcface_torch's `mbf`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from faceprint.errors import UserError
from faceprint.models.depthwise import DepthwiseConv2d
from faceprint.models.network import FaceNetwork, attach_output, he_normal, map_after
from faceprint.models.norms import Norm

EPS = 1e-5


def conv_norm(
    in_channels: int, channels: int, kernel: int, norm: Norm, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution - norm."""
    if groups == in_channels == channels:
        return nn.Sequential(DepthwiseConv2d(channels, kernel, stride), norm(channels))
    conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, norm(channels))


def conv_norm_act(
    in_channels: int, channels: int, kernel: int, norm: Norm, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution - norm - PReLU."""
    return conv_norm(in_channels, channels, kernel, norm, stride=stride, groups=groups).append(nn.PReLU(channels))


class Bottleneck(nn.Module):
    """1x1 expand - depthwise 3x3 - 1x1 linear; the input is added where stride is 1."""

    def __init__(self, in_channels: int, channels: int, expanded: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.residual = stride == 1
        self.layers = nn.Sequential(
            conv_norm_act(in_channels, expanded, 1, norm),
            conv_norm_act(expanded, expanded, 3, norm, stride=stride, groups=expanded),
            conv_norm(expanded, channels, 1, norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


def _stem(channels: int, expanded: int, blocks: int, norm: Norm) -> list[nn.Module]:
    """The part at half resolution: one grouped convolution (`mbf`), or `blocks` bottlenecks (`mbf_large`)."""
    first = conv_norm_act(3, channels, 3, norm, stride=2)
    if blocks == 1:
        return [first, conv_norm_act(channels, channels, 3, norm, groups=min(64, channels))]
    return [first, *(Bottleneck(channels, channels, expanded, 1, norm) for _ in range(blocks))]


def scaled_width(channels: int, width: float) -> int:
    """`channels` times `width`, to the nearest multiple of 8: vector units work on so many at once."""
    return max(8, round(channels * width / 8) * 8)


class MobileFaceNetBackbone(nn.Module):
    """(B, 3, H, W) -> (B, `channels`, H/16, W/16), `channels` being 512 at full width.

    `scale` multiplies the widths 64 and 128 of the bottlenecks' ends, `width` everything.
    """

    def __init__(self, blocks: Sequence[int], scale: int, width: float, norm: Norm) -> None:
        super().__init__()
        small, medium, large = (scaled_width(channels, width) for channels in (128, 256, 512))
        narrow, wide = (scaled_width(channels * scale, width) for channels in (64, 128))
        self.channels = large
        layers = _stem(narrow, small, blocks[0], norm)
        for in_channels, channels, units, expand_down, expand in (
            (narrow, narrow, blocks[1], small, small),
            (narrow, wide, blocks[2], medium, medium),
            (wide, wide, blocks[3], large, medium),
        ):
            layers.append(Bottleneck(in_channels, channels, expand_down, 2, norm))
            layers.extend(Bottleneck(channels, channels, expand, 1, norm) for _ in range(units))
        self.layers = nn.Sequential(*layers)
        self.conv_sep = conv_norm_act(wide, large, 1, norm)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv_sep(self.layers(images))


def mobilefacenet(
    *,
    blocks: tuple[int, int, int, int] = (1, 4, 6, 2),
    scale: int = 2,
    width: float = 1.0,
    embedding_dim: int | None = None,
    image_size: tuple[int, int] = (112, 112),
    output: str = "GDC",
    norm: str = "bn",
    norm_options: Mapping[str, Any] | None = None,
) -> FaceNetwork:
    """MobileFaceNet; the defaults are `mbf` (2.06 M parameters at 512 dimensions). `scale` 1 halves the ends of the
    bottlenecks: the paper's network, whose second layer is then depthwise (0.99 M parameters at 128 dimensions).
    `width` multiplies all channels.

    Convolutions and linear layers start He-normal (fan out).
    """
    if scale < 1 or not 0 < width <= 8:
        raise UserError(f"scale must be at least 1 and width in (0, 8], got scale={scale}, width={width}")
    layers = Norm(norm, EPS, norm_options or {})
    backbone = MobileFaceNetBackbone(blocks, scale, width, layers)
    network = attach_output(
        backbone,
        output,
        channels=backbone.channels,
        map_size=map_after(image_size, 16),
        image_size=image_size,
        embedding_dim=embedding_dim,
        norm=layers,
    )
    he_normal(network)
    return network
