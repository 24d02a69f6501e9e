from __future__ import annotations

import pytest
import torch

from faceprint.errors import UserError
from faceprint.models import create_model


def conv(cin: int, cout: int, kernel: int, groups: int = 1) -> int:
    return cin // groups * cout * kernel * kernel


def iresnet_parameters(units: list[int], dim: int) -> int:
    """Counted from the definition: L stem, v3 units, BN-dropout-FC-BN."""
    total = conv(3, 64, 3) + 2 * 64 + 64
    cin = 64
    for stage, width in zip(units, (64, 128, 256, 512), strict=True):
        for unit in range(stage):
            total += 2 * cin + conv(cin, width, 3) + 2 * width + width + conv(width, width, 3) + 2 * width
            if unit == 0:
                total += conv(cin, width, 1) + 2 * width
            cin = width
    return total + 2 * 512 + (512 * 7 * 7 * dim + dim) + 2 * dim


def mobilefacenet_parameters(dim: int) -> int:
    """Counted from the definition of `mbf`: scale 2, blocks 1-4-6-2."""

    def block(cin: int, cout: int, kernel: int, groups: int = 1, act: bool = True) -> int:
        return conv(cin, cout, kernel, groups) + (3 if act else 2) * cout

    def bottleneck(cin: int, cout: int, expand: int) -> int:
        return block(cin, expand, 1) + block(expand, expand, 3, expand) + block(expand, cout, 1, act=False)

    total = block(3, 128, 3) + block(128, 128, 3, 64)
    for cin, cout, count, down, expand in ((128, 128, 4, 128, 128), (128, 256, 6, 256, 256), (256, 256, 2, 512, 256)):
        total += bottleneck(cin, cout, down) + count * bottleneck(cout, cout, expand)
    total += block(256, 512, 1)
    return total + conv(512, 512, 7, 512) + 2 * 512 + 512 * dim + 2 * dim


DEPTHS = {
    "r18": [2, 2, 2, 2],
    "r34": [3, 4, 6, 3],
    "r50": [3, 4, 14, 3],
    "r100": [3, 13, 30, 3],
    "r200": [6, 26, 60, 6],
}
# Measured on the published code (design notes): millions of parameters, MiB of state.
PUBLISHED = {
    "r18": (24.026, 91.7),
    "r34": (34.139, 130.3),
    "r50": (43.591, 166.4),
    "r100": (65.156, 248.8),
    "r200": (118.834, 453.8),
    "mbf": (2.060, 7.95),
}


@pytest.mark.parametrize("name", ["r18", "r34", "r50", "r100", "r200", "mbf"])
def test_parameters_are_the_published_ones_to_the_last(name: str) -> None:
    with torch.device("meta"):
        network = create_model(name)
    counted = mobilefacenet_parameters(512) if name == "mbf" else iresnet_parameters(DEPTHS[name], 512)
    assert sum(weight.numel() for weight in network.parameters()) == counted
    millions, mebibytes = PUBLISHED[name]
    assert round(counted / 1e6, 3) == millions
    state = sum(value.numel() * value.element_size() for value in network.state_dict().values()) / 2**20
    assert state == pytest.approx(mebibytes, abs=0.051)


@pytest.mark.parametrize("name", ["r18", "mbf"])
@pytest.mark.parametrize("size", [(112, 112), (112, 96), (64, 64)])
def test_sizes_and_a_training_step(name: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = create_model(name, embedding_dim=16, image_size=size)
    embeddings = network(torch.randn(3, 3, *size))
    assert embeddings.shape == (3, 16)
    embeddings.square().sum().backward()
    for key, weight in network.named_parameters():
        assert not weight.requires_grad or (weight.grad is not None and torch.isfinite(weight.grad).all()), key


@pytest.mark.parametrize("name", ["r18", "mbf"])
def test_half_precision_leaves_the_embedding_in_float32(name: str) -> None:
    torch.manual_seed(0)
    network = create_model(name, embedding_dim=32).eval()
    images = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        exact = network(images)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(images)
    assert rounded.dtype == torch.float32
    assert torch.cosine_similarity(exact, rounded).min() > 0.99


def test_the_last_norm_of_option_e_has_a_fixed_scale() -> None:
    network = create_model("r18", embedding_dim=8)
    fixed = [key for key, weight in network.named_parameters() if not weight.requires_grad]
    assert fixed == ["output.features.weight"]


def test_channels_last_gives_the_same_embedding() -> None:
    torch.manual_seed(0)
    network = create_model("mbf", embedding_dim=16).eval()
    images = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        plain = network(images)
        fast = network.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(plain, fast, atol=1e-4)


def test_options_of_the_builder() -> None:
    half = create_model("mbf", scale=1, embedding_dim=64)
    whole = create_model("mbf", embedding_dim=64)
    assert sum(w.numel() for w in half.parameters()) < 0.6 * sum(w.numel() for w in whole.parameters())
    assert create_model("r18", output="GDC", embedding_dim=8)(torch.zeros(2, 3, 112, 112)).shape == (2, 8)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"name": "r19"}, r"unknown network 'r19' \(nearest: 'r18'\)"),
        ({"name": "mbf", "wdth": 2}, r"unknown option of network 'mbf' 'wdth' \(nearest: 'width'\)"),
        ({"name": "mbf", "width": 0.0}, "width in"),
        ({"name": "r18", "output": "Q"}, "unknown output option 'Q'"),
        ({"name": "r18", "norm": "bnn"}, r"unknown norm 'bnn' \(nearest: 'bn'\)"),
        ({"name": "r18", "image_size": (16, 112)}, "too small"),
        ({"name": "r18", "embedding_dim": 0}, "at least 1"),
        ({"name": "mbf", "scale": 0}, "scale must be at least 1"),
    ],
)
def test_mistakes_are_named(call: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        create_model(**call)  # pyright: ignore
