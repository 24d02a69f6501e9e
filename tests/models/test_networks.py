from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from faceprint.errors import UserError
from faceprint.inference.folding import fold_norms
from faceprint.models import create_model, list_models
from faceprint.models.outputs import OUTPUTS


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


def mobilefacenet_parameters(dim: int, scale: int, units: list[int]) -> int:
    """Counted from the definition: `mbf` has scale 2 and blocks 1-4-6-2, `mbf_large` 4 and 2-8-12-4."""

    def block(cin: int, cout: int, kernel: int, groups: int = 1, act: bool = True) -> int:
        return conv(cin, cout, kernel, groups) + (3 if act else 2) * cout

    def bottleneck(cin: int, cout: int, expand: int) -> int:
        return block(cin, expand, 1) + block(expand, expand, 3, expand) + block(expand, cout, 1, act=False)

    stem, *counts = units
    narrow, wide = 64 * scale, 128 * scale
    total = block(3, narrow, 3)
    total += block(narrow, narrow, 3, 64) if stem == 1 else stem * bottleneck(narrow, narrow, 128)
    rows = ((narrow, narrow, 128, 128), (narrow, wide, 256, 256), (wide, wide, 512, 256))
    for count, (cin, cout, down, expand) in zip(counts, rows, strict=True):
        total += bottleneck(cin, cout, down) + count * bottleneck(cout, cout, expand)
    total += block(wide, 512, 1)
    return total + conv(512, 512, 7, 512) + 2 * 512 + 512 * dim + 2 * dim


DEPTHS = {
    "r18": [2, 2, 2, 2],
    "r34": [3, 4, 6, 3],
    "r50": [3, 4, 14, 3],
    "r100": [3, 13, 30, 3],
    "r200": [6, 26, 60, 6],
}
MOBILE = {"mbf": (2, [1, 4, 6, 2]), "mbf_large": (4, [2, 8, 12, 4])}
# Measured on the published code (design notes): millions of parameters, MiB of state.
PUBLISHED = {
    "r18": (24.026, 91.7),
    "r34": (34.139, 130.3),
    "r50": (43.591, 166.4),
    "r100": (65.156, 248.8),
    "r200": (118.834, 453.8),
    "mbf": (2.060, 7.95),
    "mbf_large": (6.315, 24.3),
}


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_parameters_are_the_published_ones_to_the_last(name: str) -> None:
    with torch.device("meta"):
        network = create_model(name)
    counted = mobilefacenet_parameters(512, *MOBILE[name]) if name in MOBILE else iresnet_parameters(DEPTHS[name], 512)
    assert sum(weight.numel() for weight in network.parameters()) == counted
    millions, mebibytes = PUBLISHED[name]
    assert round(counted / 1e6, 3) == millions
    state = sum(value.numel() * value.element_size() for value in network.state_dict().values()) / 2**20
    assert state == pytest.approx(mebibytes, abs=0.051)


def test_r2060_is_counted_too() -> None:
    with torch.device("meta"):
        network = create_model("r2060")
    assert sum(weight.numel() for weight in network.parameters()) == iresnet_parameters([3, 128, 896, 3], 512)


def test_the_mobilefacenet_of_the_paper() -> None:
    """1,003,136 parameters; the paper's 0.99 M are these without the PReLU slopes, its 4.0 MB are these in float32."""
    network = create_model("MobileFaceNet")
    counted = sum(weight.numel() for weight in network.parameters())
    slopes = sum(layer.weight.numel() for layer in network.modules() if isinstance(layer, torch.nn.PReLU))
    assert (counted, counted - slopes) == (1_003_136, 995_584)
    assert network.embedding_dim == 128
    assert create_model("MobileFaceNet", embedding_dim=64).embedding_dim == 64
    convolutions = [layer for layer in network.backbone.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert (convolutions[1].groups, convolutions[1].out_channels) == (64, 64)  # the second layer is depthwise
    rows = [(64, 128, 64, 2)] + 4 * [(64, 128, 64, 1)]
    rows += [(64, 256, 128, 2)] + 6 * [(128, 256, 128, 1)]
    rows += [(128, 512, 128, 2)] + 2 * [(128, 256, 128, 1)]
    found = [
        (expand.in_channels, expand.out_channels, project.out_channels, depthwise.stride[0])
        for expand, depthwise, project in zip(*(convolutions[start:-1:3] for start in (2, 3, 4)), strict=True)
    ]
    assert found == rows


def test_names_match_patterns() -> None:
    assert list_models("vit_?") == ["vit_t", "vit_s", "vit_b", "vit_l", "vit_h"]
    assert list_models("*MobileNet*") == ["MobileNetD", "LMobileNetD", "LMobileNetE", "LMobileNetF"]
    assert list_models("*Inception*") == ["Inception-ResNetAD", "SE-Inception-ResNet-v2"]


FAMILIES_SMALL = {
    "r18": {},
    "mbf": {},
    "MobileFaceNet": {},
    "LMobileNetE": {"width": 0.25},
    "MobileNetF": {"width": 0.25},
    "Inception-ResNetE": {},
    "SE-Inception-ResNetBD": {},
    "vit_t": {"dim": 64, "depth": 2},
    "vit_b": {"dim": 64, "depth": 2},
}
"""One network or two of each family, with the options that make it small enough to train here."""


@pytest.mark.parametrize("name", list(FAMILIES_SMALL))
@pytest.mark.parametrize("size", [(112, 112), (112, 96), (64, 64)])
def test_sizes_and_a_training_step(name: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = create_model(name, embedding_dim=16, image_size=size, **FAMILIES_SMALL[name])
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


@pytest.mark.parametrize("output", list(OUTPUTS))
def test_half_precision_leaves_the_embedding_of_every_option_in_float32(output: str) -> None:
    """A loss scale of fp16 is put on the embeddings' gradient: in fp16 itself it would be too late."""
    network = create_model("resnet", output=output, units=[1, 1, 1, 1], image_size=(32, 32))
    with torch.autocast("cpu", torch.bfloat16):
        assert network(torch.randn(2, 3, 32, 32)).dtype == torch.float32


def test_the_last_norm_of_option_e_has_a_fixed_scale() -> None:
    network = create_model("r18", embedding_dim=8)
    fixed = [key for key, weight in network.named_parameters() if not weight.requires_grad]
    assert fixed == ["output.features.weight"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if "Inception" in name else [])
        for name in FAMILIES_SMALL
        if name != "Inception-ResNetE"
    ],
)
def test_one_network_in_other_forms(name: str) -> None:
    """Norms folded, traced, channels last: the embeddings stay, and every norm of maps is folded that can be."""
    torch.manual_seed(0)
    network = create_model(name, embedding_dim=16, **FAMILIES_SMALL[name])
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 1.0  # the moments of the one batch below, without which embeddings are nearly nothing
    images = torch.randn(4, 3, 112, 112)
    with torch.no_grad():
        network(images)
        plain = normalize(network.eval()(images))
        folded = fold_norms(network)
        program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        traced = program.module()(images[:3])
        fast = network.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
        assert plain.std() > 0.1
        assert torch.allclose(normalize(folded(images)), plain, atol=1e-5)
    assert torch.allclose(normalize(traced), plain[:3], atol=1e-5)
    assert torch.allclose(normalize(fast), plain, atol=1e-5)
    left = sum(isinstance(module, torch.nn.BatchNorm2d) for module in folded.backbone.modules())
    assert left == (8 if name == "r18" else 0)  # in r18, the first norm of each unit, which follows a sum


def test_options_of_the_builder() -> None:
    half = create_model("mbf", scale=1, embedding_dim=64)
    whole = create_model("mbf", embedding_dim=64)
    assert sum(w.numel() for w in half.parameters()) < 0.6 * sum(w.numel() for w in whole.parameters())
    assert create_model("r18", output="GDC", embedding_dim=8)(torch.zeros(2, 3, 112, 112)).shape == (2, 8)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"name": "r19"}, r"unknown network 'r19' \(nearest: 'r18', "),
        ({"name": "mbf", "wdth": 2}, r"unknown option of network 'mbf' 'wdth' \(nearest: 'width'\)"),
        ({"name": "mbf", "width": 0.0}, "width in"),
        ({"name": "r18", "output": "Q"}, "unknown output option 'Q'"),
        ({"name": "r18", "norm": "bnn"}, r"unknown norm 'bnn' \(nearest: 'bn'\)"),
        ({"name": "r18", "image_size": (16, 112)}, "too small"),
        ({"name": "r18", "embedding_dim": 0}, "at least 1"),
        ({"name": "mbf", "scale": 0}, "scale must be at least 1"),
        ({"name": "MobileNetQ"}, r"unknown output option in the network name 'MobileNetQ': 'Q'"),
        ({"name": "Inception-ResNetQQ"}, r"unknown output option in the network name 'Inception-ResNetQQ': 'QQ'"),
        ({"name": "mobilenet", "stem": "7x7"}, "unknown stem '7x7'; allowed: L, s2"),
        ({"name": "mobilenet", "width": 9.0}, "width must be in"),
        ({"name": "inception_resnet", "stem": "7x7"}, "unknown stem '7x7'; allowed: L, s2"),
        ({"name": "Inception-ResNetAD", "embedding_dim": 512}, "output option 'AD' has no layer"),
    ],
)
def test_mistakes_are_named(call: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        create_model(**call)  # pyright: ignore
