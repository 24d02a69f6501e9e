"""Residual units of the 2017 InsightFace system: v1, v2, v3, each basic and as a bottleneck.

B is a norm, C a convolution, A a PReLU. All take (B, in_channels, H, W) to (B, channels, H / stride, W / stride),
rounded up. Module names of the basic unit v3 are those of the published iresnet checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from faceprint.models.norms import Norm
from faceprint.registry import Table


@dataclass(frozen=True)
class Style:
    """What all units of a network have in common.

    `groups` is the number of groups of a bottleneck's 3x3 convolution; above 1 (ResNeXt) the inner width is half of
    the outer, else a quarter. **The code of 2017 splits the 1x1 before it too; this does not**, as ResNeXt's paper
    (arXiv 1611.05431). `stride_last` moves a v1 unit's stride to its last convolution, as with the L stem.
    `post_activation` puts the unit's PReLU, of one slope, after the sum too. `pool_shortcut` passes an input of the
    right width on as it is, every stride-th place of it, where other networks project it.
    """

    norm: Norm
    se: bool = False
    groups: int = 1
    stride_last: bool = False
    post_activation: bool = False
    pool_shortcut: bool = False

    def excite(self, channels: int) -> nn.Module:
        return SqueezeExcite(channels) if self.se else nn.Identity()

    def inner(self, channels: int) -> int:
        return channels // (4 if self.groups == 1 else 2)

    def shortcut(self, in_channels: int, channels: int, stride: int) -> nn.Module:
        """The first unit's of a stage: a strided 1x1 convolution and a norm."""
        if self.pool_shortcut and in_channels == channels:
            return nn.MaxPool2d(1, stride)
        return nn.Sequential(conv1x1(in_channels, channels, stride), self.norm(channels))


Unit = Callable[[int, int, int, bool, Style], nn.Module]
"""`(in_channels, channels, stride, first, style)` -> unit; `first` of its stage, whose shortcut is projected."""


class SqueezeExcite(nn.Module):
    """x times a gate per channel: pool - 1x1 convolution to C/16 - PReLU - 1x1 convolution - sigmoid."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // reduction, 1),
            nn.PReLU(channels // reduction),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def conv3x3(in_channels: int, channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, groups=groups, bias=False)


def conv1x1(in_channels: int, channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)


class BasicV1(nn.Module):
    """C-B-A-C-B, add, A."""

    def __init__(self, in_channels: int, channels: int, stride: int, first: bool, style: Style) -> None:
        super().__init__()
        early, late = (1, stride) if style.stride_last else (stride, 1)
        self.conv1 = conv3x3(in_channels, channels, early)
        self.bn1 = style.norm(channels)
        self.prelu1 = nn.PReLU(channels)
        self.conv2 = conv3x3(channels, channels, late)
        self.bn2 = style.norm(channels)
        self.se = style.excite(channels)
        self.downsample = style.shortcut(in_channels, channels, stride) if first else nn.Identity()
        self.prelu2 = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.prelu1(self.bn1(self.conv1(x)))
        return self.prelu2(self.se(self.bn2(self.conv2(residual))) + self.downsample(x))


class BasicV2(nn.Module):
    """B-A-C-B-A-C, add; a projection takes the pre-activated input and has no norm."""

    def __init__(self, in_channels: int, channels: int, stride: int, first: bool, style: Style) -> None:
        super().__init__()
        self.bn1 = style.norm(in_channels)
        self.prelu1 = nn.PReLU(in_channels)
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn2 = style.norm(channels)
        self.prelu2 = nn.PReLU(channels)
        self.conv2 = conv3x3(channels, channels)
        self.se = style.excite(channels)
        self.downsample = conv1x1(in_channels, channels, stride) if first else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.prelu1(self.bn1(x))
        residual = self.se(self.conv2(self.prelu2(self.bn2(self.conv1(active)))))
        return residual + (x if self.downsample is None else self.downsample(active))


class BasicV3(nn.Module):
    """B-C-B-A-C-B, add; the stride is on the second convolution, and there is no activation after the sum
    unless the style asks for it: then both places share the one slope."""

    def __init__(self, in_channels: int, channels: int, stride: int, first: bool, style: Style) -> None:
        super().__init__()
        self.bn1 = style.norm(in_channels)
        self.conv1 = conv3x3(in_channels, channels)
        self.bn2 = style.norm(channels)
        self.prelu = nn.PReLU(1 if style.post_activation else channels)
        self.conv2 = conv3x3(channels, channels, stride)
        self.bn3 = style.norm(channels)
        self.se = style.excite(channels)
        self.downsample = style.shortcut(in_channels, channels, stride) if first else nn.Identity()
        self.post_activation = style.post_activation

    def forward(self, x: Tensor) -> Tensor:
        residual = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        total = self.se(self.bn3(self.conv2(residual))) + self.downsample(x)
        return self.prelu(total) if self.post_activation else total


class BottleneckV1(nn.Module):
    """C(1x1)-B-A-C(3x3)-B-A-C(1x1)-B, add, A."""

    def __init__(self, in_channels: int, channels: int, stride: int, first: bool, style: Style) -> None:
        super().__init__()
        inner = style.inner(channels)
        early, late = (1, stride) if style.stride_last else (stride, 1)
        self.conv1 = conv1x1(in_channels, inner, early)
        self.bn1 = style.norm(inner)
        self.prelu1 = nn.PReLU(inner)
        self.conv2 = conv3x3(inner, inner, groups=style.groups)
        self.bn2 = style.norm(inner)
        self.prelu2 = nn.PReLU(inner)
        self.conv3 = conv1x1(inner, channels, late)
        self.bn3 = style.norm(channels)
        self.se = style.excite(channels)
        self.downsample = style.shortcut(in_channels, channels, stride) if first else nn.Identity()
        self.prelu3 = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.prelu1(self.bn1(self.conv1(x)))
        residual = self.prelu2(self.bn2(self.conv2(residual)))
        return self.prelu3(self.se(self.bn3(self.conv3(residual))) + self.downsample(x))


class BottleneckV2(nn.Module):
    """B-A-C(1x1)-B-A-C(3x3)-B-A-C(1x1), add; the stride is on the 3x3, a projection as in `BasicV2`."""

    def __init__(self, in_channels: int, channels: int, stride: int, first: bool, style: Style) -> None:
        super().__init__()
        inner = style.inner(channels)
        self.bn1 = style.norm(in_channels)
        self.prelu1 = nn.PReLU(in_channels)
        self.conv1 = conv1x1(in_channels, inner)
        self.bn2 = style.norm(inner)
        self.prelu2 = nn.PReLU(inner)
        self.conv2 = conv3x3(inner, inner, stride, style.groups)
        self.bn3 = style.norm(inner)
        self.prelu3 = nn.PReLU(inner)
        self.conv3 = conv1x1(inner, channels)
        self.se = style.excite(channels)
        self.downsample = conv1x1(in_channels, channels, stride) if first else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.prelu1(self.bn1(x))
        residual = self.prelu2(self.bn2(self.conv1(active)))
        residual = self.se(self.conv3(self.prelu3(self.bn3(self.conv2(residual)))))
        return residual + (x if self.downsample is None else self.downsample(active))


class BottleneckV3(nn.Module):
    """B-C(1x1)-B-A-C(3x3)-B-A-C(1x1)-B, add; the stride is on the last 1x1."""

    def __init__(self, in_channels: int, channels: int, stride: int, first: bool, style: Style) -> None:
        super().__init__()
        inner = style.inner(channels)
        self.bn1 = style.norm(in_channels)
        self.conv1 = conv1x1(in_channels, inner)
        self.bn2 = style.norm(inner)
        self.prelu1 = nn.PReLU(inner)
        self.conv2 = conv3x3(inner, inner, groups=style.groups)
        self.bn3 = style.norm(inner)
        self.prelu2 = nn.PReLU(inner)
        self.conv3 = conv1x1(inner, channels, stride)
        self.bn4 = style.norm(channels)
        self.se = style.excite(channels)
        self.downsample = style.shortcut(in_channels, channels, stride) if first else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        residual = self.prelu1(self.bn2(self.conv1(self.bn1(x))))
        residual = self.prelu2(self.bn3(self.conv2(residual)))
        return self.se(self.bn4(self.conv3(residual))) + self.downsample(x)


UNITS: Table[tuple[Unit, Unit]] = Table(
    "unit", [("v1", (BasicV1, BottleneckV1)), ("v2", (BasicV2, BottleneckV2)), ("v3", (BasicV3, BottleneckV3))]
)
"""Name of a unit -> its basic form and its bottleneck."""
