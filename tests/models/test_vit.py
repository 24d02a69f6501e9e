from __future__ import annotations

import pytest
import torch
from torch import nn

from faceprint.errors import UserError
from faceprint.models import create_model
from faceprint.models.vit import Attention, StochasticDepth, ViTBackbone

SMALL = {"dim": 32, "depth": 3, "heads": 4}


def parameters(dim: int, depth: int, embedding_dim: int, patches: int = 144) -> int:
    tokens = 3 * 9 * 9 * dim + dim + patches * dim + dim  # patches, positions, mask token
    attention = 3 * dim * dim + dim * dim + dim
    mlp = 4 * dim * dim + 4 * dim + 4 * dim * dim + dim
    head = patches * dim * dim + 2 * dim + dim * embedding_dim + 2 * embedding_dim
    return tokens + depth * (2 * dim + attention + 2 * dim + mlp) + 2 * dim + head


@pytest.mark.parametrize(
    ("name", "dim", "depth", "recompute"),
    [
        ("vit_t", 256, 12, False),
        ("vit_s", 512, 12, False),
        ("vit_b", 512, 24, True),
        ("vit_l", 768, 24, True),
        ("vit_h", 1024, 48, True),
    ],
)
def test_parameters(name: str, dim: int, depth: int, recompute: bool) -> None:
    with torch.device("meta"):
        network = create_model(name)
    assert sum(weight.numel() for weight in network.parameters()) == parameters(dim, depth, 512)
    assert network.backbone.recompute == recompute


@pytest.mark.parametrize(("size", "patches"), [((112, 112), 144), ((112, 96), 120), ((9, 17), 1), ((20, 50), 10)])
def test_patches_that_fit_are_counted(size: tuple[int, int], patches: int) -> None:
    network = create_model("vit", image_size=size, embedding_dim=8, **SMALL)
    assert sum(weight.numel() for weight in network.parameters()) == parameters(32, 3, 8, patches)
    assert network(torch.zeros(2, 3, *size)).shape == (2, 8)


def test_attention_is_softmax_over_tokens() -> None:
    torch.manual_seed(0)
    attention = Attention(12, heads=3)
    x = torch.randn(2, 5, 12)
    query, key, value = (x @ attention.qkv.weight.T).split(12, dim=2)
    rows = []
    for head in range(3):
        q, k, v = (part[..., 4 * head : 4 * head + 4] for part in (query, key, value))
        rows.append(torch.softmax(q @ k.transpose(1, 2) / 2, dim=2) @ v)
    expected = torch.cat(rows, dim=2) @ attention.proj.weight.T + attention.proj.bias
    assert torch.allclose(attention(x), expected, atol=1e-6)


def test_stochastic_depth_drops_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = StochasticDepth(0.25)
    x = torch.ones(4000, 2, 3)
    dropped = layer(x)
    assert {round(value, 4) for value in dropped.unique().tolist()} == {0.0, round(1 / 0.75, 4)}
    assert (dropped == dropped[:, :1, :1]).all()
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)
    assert layer.eval()(x) is x


def backbone_of(network: nn.Module) -> ViTBackbone:
    assert isinstance(network.backbone, ViTBackbone)
    return network.backbone


def test_rates_of_stochastic_depth_rise_from_nothing() -> None:
    blocks = backbone_of(create_model("vit", drop_path=0.3, dim=16, depth=4, heads=2)).blocks
    assert [block.drop_path.rate for block in blocks] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_masked_tokens_are_the_mask_token_in_training_only() -> None:
    torch.manual_seed(0)
    backbone = backbone_of(create_model("vit", mask_ratio=0.25, drop_path=0.0, image_size=(36, 36), **SMALL))
    images = torch.randn(3, 3, 36, 36)
    masked = (backbone(images) == backbone.mask_token).all(dim=2)
    assert masked.sum(dim=1).tolist() == [4, 4, 4]  # a quarter of 16
    assert len({tuple(row.tolist()) for row in masked}) == 3
    assert not (backbone.eval()(images) == backbone.mask_token).all(dim=2).any()


def test_kept_tokens_stay_in_their_places() -> None:
    """Without blocks a token depends on its own patch alone, so what is kept equals what evaluation gives there."""
    torch.manual_seed(0)
    backbone = backbone_of(create_model("vit", mask_ratio=0.5, image_size=(36, 45), **SMALL))
    backbone.blocks = nn.Sequential()
    images = torch.randn(3, 3, 36, 45)
    trained, whole = backbone(images), backbone.eval()(images)
    kept = (trained != backbone.mask_token).all(dim=2)
    assert kept.sum().item() == 3 * 10
    assert torch.allclose(trained[kept], whole[kept], atol=1e-6)


def test_recomputing_gives_the_same_gradients() -> None:
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        network = create_model("vit", recompute=recompute, drop_path=0.5, embedding_dim=8, **SMALL)
        torch.manual_seed(1)
        network(torch.randn(4, 3, 112, 112)).pow(3).sum().backward()
        gradients.append([weight.grad for weight in network.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.allclose(plain, recomputed, atol=1e-6)


def test_a_token_that_masks_nothing_is_not_trained() -> None:
    untrained = [
        key
        for key, weight in create_model("vit", mask_ratio=0.0, **SMALL).named_parameters()
        if not weight.requires_grad
    ]
    assert untrained == ["backbone.mask_token"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dim": 30, "heads": 8}, "heads divide dim, got dim=30"),
        ({"depth": 0}, "depth=0"),
        ({"drop_path": 1.0}, r"in \[0, 1\), got 1.0"),
        ({"mask_ratio": -0.1}, "got 0.1 and -0.1"),
        ({"mlp_ratio": 0.0}, "mlp_ratio=0.0"),
        ({"image_size": (8, 112)}, "image_size 8x112 is too small: at least 9"),
        ({"embedding_dim": 0}, "at least 1"),
        ({"norm": "sn"}, "unknown option of network 'vit' 'norm'"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        create_model("vit", **options)  # pyright: ignore
