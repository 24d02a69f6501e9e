"""Residual networks for faces: those of the 2017 InsightFace system, iresnet (arXiv 1801.07698), ResNeXt and SE.

A network is a stem, four stages of residual units (`units.py`) and an output option.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from faceprint.errors import UserError
from faceprint.models.checkpointing import checkpointed
from faceprint.models.network import FaceNetwork, attach_output, he_normal, map_after
from faceprint.models.norms import Norm
from faceprint.models.units import UNITS, Style, Unit, conv3x3
from faceprint.registry import Table, unknown

UNITS_PER_STAGE: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    49: (3, 4, 14, 3),
    50: (3, 4, 14, 3),
    74: (3, 6, 24, 3),
    90: (3, 8, 30, 3),
    100: (3, 13, 30, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    269: (3, 30, 48, 8),
    2060: (3, 128, 896, 3),
}
"""By depth; 200 is the network of 2017, whose units are bottlenecks. The later `r200` states its units itself."""
BOTTLENECK_FROM = 101
STEM_WIDTH = 64
BASIC_WIDTHS = (64, 128, 256, 512)
BOTTLENECK_WIDTHS = (256, 512, 1024, 2048)
EPS_2017 = 2e-5
EPS_IRESNET = 1e-5


REDUCTIONS = Table("stem", [("L", 16), ("7x7", 32)])
"""By the stem: pixels along a side of the image that make one of the last map's."""


def _gaussian(module: nn.Module) -> None:
    """Start every convolution inside `module` from N(0, 0.1)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0.0, 0.1)


INITS: Table[Callable[[nn.Module], None]] = Table("init", [("normal", _gaussian), ("he", he_normal)])


class ResNetBackbone(nn.Module):
    """Stem and four stages: (B, 3, H, W) -> (B, C, H/16, W/16), or H/32, W/32 with the 7x7 stem; sizes round up.

    With `recompute`, a training step keeps each unit's input only and computes the rest again in the backward pass.
    """

    def __init__(
        self,
        units_per_stage: Sequence[int],
        widths: Sequence[int],
        unit: Unit,
        style: Style,
        *,
        large_stem: bool,
        recompute: bool,
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(3, STEM_WIDTH) if large_stem else nn.Conv2d(3, STEM_WIDTH, 7, 2, 3, bias=False)
        self.bn1 = style.norm(STEM_WIDTH)
        self.prelu = nn.PReLU(1 if style.post_activation else STEM_WIDTH)
        self.pool = nn.Identity() if large_stem else nn.MaxPool2d(3, 2, 1)
        stages: list[nn.Sequential] = []
        in_channels = STEM_WIDTH
        for number, (units, channels) in enumerate(zip(units_per_stage, widths, strict=True)):
            first = unit(in_channels, channels, 2 if number or large_stem else 1, True, style)
            rest = [unit(channels, channels, 1, False, style) for _ in range(units - 1)]
            stages.append(nn.Sequential(first, *rest))
            in_channels = channels
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.recompute = recompute

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.prelu(self.bn1(self.conv1(images))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = checkpointed(stage, x) if self.recompute and self.training else stage(x)
        return x


def resnet(
    *,
    depth: int = 50,
    unit: str = "v3",
    stem: Literal["L", "7x7"] = "L",
    se: bool = False,
    groups: int = 1,
    bottleneck: bool | None = None,
    units: Sequence[int] | None = None,
    post_activation: bool = False,
    pool_shortcut: bool = False,
    init: Literal["normal", "he"] = "normal",
    recompute: bool = False,
    embedding_dim: int | None = None,
    image_size: tuple[int, int] = (112, 112),
    output: str = "E",
    norm: str = "bn",
    norm_options: Mapping[str, Any] | None = None,
    eps: float = EPS_2017,
) -> FaceNetwork:
    """A residual network of a published `depth`.

    `unit` is v1, v2 or v3; `stem` "L" keeps the resolution (3x3, stride 1), "7x7" quarters it. `se` adds squeeze and
    excitation, `groups` 32 makes ResNeXt. Units are bottlenecks, four times as wide outside, from depth 101 on unless
    `bottleneck` says otherwise. `units` gives the four stages' numbers of units where they are not the table's.
    `post_activation` and `pool_shortcut`: see `units.Style`. Convolutions start from N(0, 0.1), or He-normal (fan
    out) with `init` "he". `recompute` saves memory in training, see `ResNetBackbone`.
    """
    reduction, start = REDUCTIONS[stem], INITS[init]
    narrow = depth < BOTTLENECK_FROM if bottleneck is None else not bottleneck
    if groups > 1 and narrow:
        raise UserError(f"groups={groups} needs bottleneck units; set bottleneck=true")
    layers = Norm(norm, eps, norm_options or {})
    style = Style(
        layers,
        se=se,
        groups=groups,
        stride_last=stem == "L",
        post_activation=post_activation,
        pool_shortcut=pool_shortcut,
    )
    widths = BASIC_WIDTHS if narrow else BOTTLENECK_WIDTHS
    backbone = ResNetBackbone(
        _units_per_stage(depth, units),
        widths,
        UNITS[unit][0 if narrow else 1],
        style,
        large_stem=stem == "L",
        recompute=recompute,
    )
    network = attach_output(
        backbone,
        output,
        channels=widths[-1],
        map_size=map_after(image_size, reduction),
        image_size=image_size,
        embedding_dim=embedding_dim,
        norm=layers,
    )
    start(backbone)
    return network


def _units_per_stage(depth: int, units: Sequence[int] | None) -> Sequence[int]:
    if units is None:
        if depth not in UNITS_PER_STAGE:
            raise unknown("depth", depth, [str(known) for known in UNITS_PER_STAGE])
        return UNITS_PER_STAGE[depth]
    if len(units) != len(BASIC_WIDTHS) or min(units) < 1:
        raise UserError(f"units={list(units)}: give four numbers of at least 1, one for each stage")
    return units
