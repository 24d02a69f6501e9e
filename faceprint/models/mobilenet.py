"""MobileNet v1 (arXiv 1704.04861) for faces, as in the 2017 InsightFace system: PReLU after every norm."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from faceprint.errors import UserError
from faceprint.models.mobilefacenet import conv_norm_act, scaled_width
from faceprint.models.network import FaceNetwork, attach_output, he_normal, map_after
from faceprint.models.norms import Norm
from faceprint.registry import unknown

EPS_BODY = 1e-3
EPS_EMBEDDING = 2e-5
STEM_WIDTH = 32
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
"""Width and stride of the depthwise-separable blocks."""


def mobilenet_backbone(width: float, norm: Norm, *, large_stem: bool) -> nn.Sequential:
    """(B, 3, H, W) -> (B, 1024 `width`, h, w), H and W divided by 16 with the large stem, else 32, rounding up.

    Layers bear the published names: conv_1, then conv_2_dw (3x3) and conv_2 (1x1) to conv_14_dw and conv_14.
    """
    in_channels = scaled_width(STEM_WIDTH, width)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv_1"] = conv_norm_act(3, in_channels, 3, norm, stride=1 if large_stem else 2)
    for number, (full_width, stride) in enumerate(BLOCKS, start=2):
        channels = scaled_width(full_width, width)
        layers[f"conv_{number}_dw"] = conv_norm_act(
            in_channels, in_channels, 3, norm, stride=stride, groups=in_channels
        )
        layers[f"conv_{number}"] = conv_norm_act(in_channels, channels, 1, norm)
        in_channels = channels
    return nn.Sequential(layers)


def mobilenet(
    *,
    stem: Literal["L", "s2"] = "L",
    width: float = 1.0,
    embedding_dim: int | None = None,
    image_size: tuple[int, int] = (112, 112),
    output: str = "E",
    norm: str = "bn",
    norm_options: Mapping[str, Any] | None = None,
) -> FaceNetwork:
    """MobileNet v1; `stem` "L" keeps the resolution, "s2" halves it, `width` multiplies all channels.

    The scales of the body's norms are fixed at 1, as published; their eps is 1e-3, that of the norms in the output
    option 2e-5. Convolutions and linear layers start He-normal (fan out). With output E and 128 dimensions this is
    the network of OpenCV's `face_recognition_sface_2021dec`, which takes its pixels as (x - 127.5) / 128.
    """
    if stem not in ("L", "s2"):
        raise unknown("stem", stem, ["L", "s2"])
    if not 0 < width <= 8:
        raise UserError(f"width must be in (0, 8], got width={width}")
    options = norm_options or {}
    network = attach_output(
        mobilenet_backbone(width, Norm(norm, EPS_BODY, options, learned_scale=False), large_stem=stem == "L"),
        output,
        channels=scaled_width(BLOCKS[-1][0], width),
        map_size=map_after(image_size, 16 if stem == "L" else 32),
        image_size=image_size,
        embedding_dim=embedding_dim,
        norm=Norm(norm, EPS_EMBEDDING, options),
    )
    he_normal(network)
    return network
