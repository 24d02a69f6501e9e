"""Residual networks for faces. iresnet (Deng et al., arXiv 1801.07698) is unit v3 with the L stem.

Module names inside a backbone are those of the published iresnet checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from faceprint.models.network import FaceNetwork, attach_output
from faceprint.models.norms import Norm, make_norm
from faceprint.registry import unknown

UNITS_PER_STAGE: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    200: (6, 26, 60, 6),
}
STAGE_WIDTHS = (64, 128, 256, 512)
EPS = 1e-5


def conv3x3(in_channels: int, channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)


class UnitV3(nn.Module):
    """ "BCBACB" residual unit: norm - conv - norm - PReLU - conv - norm, add; no activation after the sum.

    The stride is on the second convolution. The first unit of a stage projects its shortcut by a strided 1x1
    convolution and a norm.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Norm, *, project: bool) -> None:
        super().__init__()
        self.bn1 = norm(in_channels)
        self.conv1 = conv3x3(in_channels, channels)
        self.bn2 = norm(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = conv3x3(channels, channels, stride)
        self.bn3 = norm(channels)
        self.downsample = (
            nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), norm(channels))
            if project
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        residual = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(residual)) + self.downsample(x)


class ResNetBackbone(nn.Module):
    """L stem and four stages: (B, 3, H, W) -> (B, 512, H/16, W/16)."""

    def __init__(self, units_per_stage: Sequence[int], norm: Norm) -> None:
        super().__init__()
        self.conv1 = conv3x3(3, STAGE_WIDTHS[0])
        self.bn1 = norm(STAGE_WIDTHS[0])
        self.prelu = nn.PReLU(STAGE_WIDTHS[0])
        stages: list[nn.Sequential] = []
        in_channels = STAGE_WIDTHS[0]
        for units, channels in zip(units_per_stage, STAGE_WIDTHS, strict=True):
            first = UnitV3(in_channels, channels, 2, norm, project=True)
            rest = [UnitV3(channels, channels, 1, norm, project=False) for _ in range(units - 1)]
            stages.append(nn.Sequential(first, *rest))
            in_channels = channels
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def forward(self, images: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(images)))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def resnet(
    *,
    depth: int,
    embedding_dim: int = 512,
    image_size: tuple[int, int] = (112, 112),
    output: str = "E",
    norm: str = "bn",
) -> FaceNetwork:
    """iresnet of a published depth: 18, 34, 50, 100 or 200. Convolutions start from N(0, 0.1)."""
    if depth not in UNITS_PER_STAGE:
        raise unknown("depth", depth, [str(known) for known in UNITS_PER_STAGE])
    backbone = ResNetBackbone(UNITS_PER_STAGE[depth], make_norm(norm, EPS))
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, 0.1)
    return attach_output(
        backbone,
        output,
        channels=STAGE_WIDTHS[-1],
        reduction=16,
        image_size=image_size,
        embedding_dim=embedding_dim,
        eps=EPS,
    )
