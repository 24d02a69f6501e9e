from __future__ import annotations

import pytest
import torch
from torch import nn

from faceprint.models import create_model

WIDTHS = [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
STRIDES = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]


def body_parameters() -> int:
    """Counted from the definition: each convolution has a norm (2) and a PReLU (1) a channel."""
    total, before = 3 * 9 * 32 + 3 * 32, 32
    for width in WIDTHS:
        total += 9 * before + 3 * before + before * width + 3 * width
        before = width
    return total


@pytest.mark.parametrize(
    ("name", "dim", "head"),
    [
        ("LMobileNetE", 512, 2 * 1024 + 1024 * 7 * 7 * 512 + 512 + 2 * 512),
        ("LMobileNetE", 128, 2 * 1024 + 1024 * 7 * 7 * 128 + 128 + 2 * 128),
        ("LMobileNetF", 512, 3 * 1024 + 1024 * 7 * 7 * 512 + 512 + 2 * 512),
        ("LMobileNetD", 512, 3 * 1024 + 1024 * 512 + 512 + 3 * 512),
        ("MobileNetD", 512, 3 * 1024 + 1024 * 512 + 512 + 3 * 512),
        ("MobileNet", 1024, 3 * 1024),
        ("MobileNetE", 512, 2 * 1024 + 1024 * 4 * 4 * 512 + 512 + 2 * 512),
    ],
)
def test_parameters(name: str, dim: int, head: int) -> None:
    with torch.device("meta"):
        network = create_model(name, embedding_dim=dim)
    assert sum(weight.numel() for weight in network.parameters()) == body_parameters() + head


def test_layers_are_those_of_the_definition() -> None:
    with torch.device("meta"):
        network = create_model("LMobileNetE", embedding_dim=128)
    convolutions = {name: layer for name, layer in network.backbone.named_modules() if isinstance(layer, nn.Conv2d)}
    assert list(convolutions)[:3] == ["conv_1.0", "conv_2_dw.0", "conv_2.0"]
    assert list(convolutions)[-1] == "conv_14.0"
    assert [layer.stride[0] for layer in convolutions.values() if layer.groups > 1] == STRIDES
    body = [layer for layer in network.backbone.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(layer.eps, layer.weight.requires_grad) for layer in body} == {(1e-3, False)}
    assert (network.output.norm.eps, network.output.norm.weight.requires_grad) == (2e-5, True)
    assert (network.output.features.eps, network.output.features.weight.requires_grad) == (2e-5, False)


@pytest.mark.parametrize(("stem", "reduction"), [("L", 16), ("s2", 32)])
@pytest.mark.parametrize("size", [(112, 112), (112, 96), (100, 70)])
def test_map_sizes(stem: str, reduction: int, size: tuple[int, int]) -> None:
    with torch.device("meta"):
        network = create_model("mobilenet", stem=stem, image_size=size)
        maps = network.backbone(torch.empty(2, 3, *size))
    height, width = (-(-side // reduction) for side in size)
    assert maps.shape == (2, 1024, height, width)
    assert network.output.fc.in_features == 1024 * height * width


def test_width_multiplies_every_layer() -> None:
    with torch.device("meta"):
        network = create_model("mobilenet", width=0.25)
    assert [layer.out_channels for name, layer in network.backbone.named_modules() if name.endswith(".0")][::2] == [
        8,
        *(width // 4 for width in WIDTHS),
    ]
