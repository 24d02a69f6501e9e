from __future__ import annotations

import pytest
import torch

from faceprint.errors import UserError
from faceprint.models import create_model
from faceprint.models.inception_resnet import Mixed, Residual, map_size
from faceprint.models.norms import Norm


def convs(inputs: int, *layers: tuple[int, int]) -> int:
    """Parameters of a chain of (channels, places of the kernel), each with a norm."""
    total = 0
    for channels, places in layers:
        total += inputs * channels * places + 2 * channels
        inputs = channels
    return total


def body_parameters(se: bool) -> int:
    def residual(channels: int, inner: int) -> int:
        squeezed = channels // 16
        gate = channels * squeezed + squeezed + squeezed + squeezed * channels + channels
        return convs(inner, (channels, 1)) + (gate if se else 0)

    stem = convs(3, (32, 9), (32, 9), (64, 9), (80, 1), (192, 9))
    mixed_5b = convs(192, (96, 1)) + convs(192, (48, 1), (64, 25)) + convs(192, (64, 1), (96, 9), (96, 9))
    mixed_5b += convs(192, (64, 1))
    block35 = convs(320, (32, 1)) + convs(320, (32, 1), (32, 9)) + convs(320, (32, 1), (48, 9), (64, 9))
    to_17 = convs(320, (384, 9)) + convs(320, (256, 1), (256, 9), (384, 9))
    block17 = convs(1088, (192, 1)) + convs(1088, (129, 1), (160, 7), (192, 7))
    to_8 = convs(1088, (256, 1), (384, 9)) + convs(1088, (256, 1), (288, 9)) + convs(1088, (256, 1), (288, 9), (320, 9))
    block8 = convs(2080, (192, 1)) + convs(2080, (192, 1), (224, 3), (256, 3))
    return (
        stem
        + mixed_5b
        + 10 * (block35 + residual(320, 32 + 32 + 64))
        + to_17
        + 20 * (block17 + residual(1088, 192 + 192))
        + to_8
        + 10 * (block8 + residual(2080, 192 + 256))
        + convs(2080, (1536, 1))
    )


@pytest.mark.parametrize(
    ("name", "se", "head"),
    [
        ("Inception-ResNetAD", False, 3 * 1536),
        ("Inception-ResNet-v2", False, 3 * 1536),
        ("SE-Inception-ResNet-v2", True, 3 * 1536),
        ("Inception-ResNetE", False, 2 * 1536 + 1536 * 5 * 5 * 512 + 512 + 2 * 512),
    ],
)
def test_parameters(name: str, se: bool, head: int) -> None:
    with torch.device("meta"):
        network = create_model(name)
    assert sum(weight.numel() for weight in network.parameters()) == body_parameters(se) + head


@pytest.mark.parametrize("stem", ["L", "s2"])
def test_the_map_size_is_that_of_a_forward_pass(stem: str) -> None:
    large = stem == "L"
    with torch.device("meta"):
        backbone = create_model("inception_resnet", stem=stem).backbone
        for size in [(112, 112), (112, 96), (39, 40), (55, 71), (83, 128)]:
            assert backbone(torch.empty(2, 3, *size)).shape == (2, 1536, *map_size(size, large_stem=large))
    assert map_size((112, 112), large_stem=large) == ((12, 12) if large else (5, 5))


@pytest.mark.parametrize(("stem", "smallest"), [("L", 21), ("s2", 39)])
def test_the_smallest_image(stem: str, smallest: int) -> None:
    with torch.device("meta"):
        network = create_model("inception_resnet", stem=stem, image_size=(smallest, smallest))
        assert network.backbone(torch.empty(2, 3, smallest, smallest)).shape == (2, 1536, 1, 1)
        with pytest.raises(UserError, match=f"too small for this network: at least {smallest} pixels"):
            create_model("inception_resnet", stem=stem, image_size=(112, smallest - 1))


def test_a_residual_is_scaled_before_the_sum() -> None:
    torch.manual_seed(0)
    block = Residual(32, Mixed(torch.nn.Identity(), torch.nn.ReLU()), 64, 0.3, Norm("bn", 1e-3), se=True).eval()
    x = torch.randn(2, 32, 5, 4)
    up = torch.einsum("oi,bihw->bohw", block.up[0].weight[:, :, 0, 0], torch.cat([x, x.clamp_min(0)], 1))
    up = up / (1 + 1e-3) ** 0.5
    expected = (x + 0.3 * up * block.se.gate(up)).clamp_min(0)
    assert torch.allclose(block(x), expected, atol=1e-6)


def test_scales_of_the_body_are_fixed() -> None:
    with torch.device("meta"):
        network = create_model("Inception-ResNetAD")
    norms = [layer for layer in network.backbone.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert {(layer.eps, layer.weight.requires_grad, layer.bias.requires_grad) for layer in norms} == {
        (1e-3, False, True)
    }
    assert network.output.norm.weight.requires_grad
    assert network.embedding_dim == 1536
