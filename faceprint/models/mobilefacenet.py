"""MobileFaceNet (Chen et al., arXiv 1804.07573) in the layout of arcface_torch's `mbf`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from faceprint.errors import UserError
from faceprint.models.network import FaceNetwork, attach_output
from faceprint.models.norms import Norm, make_norm

EPS = 1e-5


def conv_norm(
    in_channels: int, channels: int, kernel: int, norm: Norm, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution - norm."""
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


def _stem(width: int, blocks: int, norm: Norm) -> list[nn.Module]:
    """The part at half resolution: one grouped convolution (`mbf`), or `blocks` bottlenecks (`mbf_large`)."""
    first = conv_norm_act(3, width, 3, norm, stride=2)
    if blocks == 1:
        return [first, conv_norm_act(width, width, 3, norm, groups=64)]
    return [first, *(Bottleneck(width, width, 128, 1, norm) for _ in range(blocks))]


class MobileFaceNetBackbone(nn.Module):
    """(B, 3, H, W) -> (B, 512, H/16, W/16); `scale` multiplies the widths 64 and 128 of the paper."""

    def __init__(self, blocks: Sequence[int], scale: int, norm: Norm) -> None:
        super().__init__()
        narrow, wide = 64 * scale, 128 * scale
        layers = _stem(narrow, blocks[0], norm)
        for in_channels, channels, units, expand_down, expand in (
            (narrow, narrow, blocks[1], 128, 128),
            (narrow, wide, blocks[2], 256, 256),
            (wide, wide, blocks[3], 512, 256),
        ):
            layers.append(Bottleneck(in_channels, channels, expand_down, 2, norm))
            layers.extend(Bottleneck(channels, channels, expand, 1, norm) for _ in range(units))
        self.layers = nn.Sequential(*layers)
        self.conv_sep = conv_norm_act(wide, 512, 1, norm)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv_sep(self.layers(images))


def mobilefacenet(
    *,
    blocks: tuple[int, int, int, int] = (1, 4, 6, 2),
    scale: int = 2,
    embedding_dim: int = 512,
    image_size: tuple[int, int] = (112, 112),
    output: str = "GDC",
    norm: str = "bn",
) -> FaceNetwork:
    """MobileFaceNet; the defaults are `mbf` (2.06 M parameters at 512 dimensions). `scale` 1 is half as wide.

    Convolutions and linear layers start He-normal (fan out).
    """
    if scale < 1:
        raise UserError(f"scale must be at least 1, got {scale}")
    backbone = MobileFaceNetBackbone(blocks, scale, make_norm(norm, EPS))
    network = attach_output(
        backbone,
        output,
        channels=512,
        reduction=16,
        image_size=image_size,
        embedding_dim=embedding_dim,
        eps=EPS,
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
