"""Sizes and costs of networks against counts by hand."""

from __future__ import annotations

import resource

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from faceprint.errors import UserError
from faceprint.models import create_model
from faceprint.models.network import FaceNetwork
from faceprint.models.stats import flops, parameters, state_bytes, summary


def convolution(in_channels: int, channels: int, kernel: int, side: int, groups: int = 1) -> int:
    """Multiply-adds of a square convolution with an output of `side` x `side`."""
    return side * side * channels * (in_channels // groups) * kernel * kernel


def r18_by_hand() -> int:
    count, in_channels, side = convolution(3, 64, 3, 112), 64, 112
    for channels in (64, 128, 256, 512):
        count += convolution(in_channels, channels, 3, side)  # the first unit's stride is on its second convolution
        side //= 2
        count += convolution(channels, channels, 3, side) + convolution(in_channels, channels, 1, side)
        count += 2 * convolution(channels, channels, 3, side)
        in_channels = channels
    return count + 512 * side * side * 512


def mbf_by_hand() -> int:
    count, in_channels, side = convolution(3, 128, 3, 56) + convolution(128, 128, 3, 56, groups=64), 128, 56
    for channels, units, expand_down, expand in ((128, 4, 128, 128), (256, 6, 256, 256), (256, 2, 512, 256)):
        for number in range(1 + units):
            inner = expand if number else expand_down
            count += convolution(in_channels, inner, 1, side)
            side = side if number else side // 2
            count += convolution(inner, inner, 3, side, groups=inner) + convolution(inner, channels, 1, side)
            in_channels = channels
    return count + convolution(256, 512, 1, 7) + convolution(512, 512, 7, 1, groups=512) + 512 * 512


@pytest.mark.parametrize(("name", "count"), [("r18", r18_by_hand()), ("mbf", mbf_by_hand())])
def test_multiply_adds_equal_a_count_by_hand(name: str, count: int) -> None:
    assert summary(name).flops == count


@pytest.mark.parametrize(("name", "gflops"), [("r50", 6.3), ("r100", 12.1)])
def test_multiply_adds_are_the_published_ones(name: str, gflops: float) -> None:
    assert summary(name).flops / 1e9 == pytest.approx(gflops, abs=0.05)


@pytest.mark.parametrize(
    ("name", "mib"), [("r18", 91.71), ("r34", 130.33), ("r50", 166.43), ("r100", 248.82), ("mbf", 7.95)]
)
def test_sizes_are_the_published_ones(name: str, mib: float) -> None:
    assert summary(name).state_bytes / 2**20 == pytest.approx(mib, abs=0.005)


def test_the_state_is_what_a_file_of_weights_holds() -> None:
    network = create_model("mbf", scale=1, width=0.5)
    header = int.from_bytes(save(network.state_dict())[:8], "little")
    assert state_bytes(network) == len(save(network.state_dict())) - 8 - header
    assert state_bytes(network.bfloat16()) == state_bytes(network.float())
    assert parameters(network) == sum(len(weight.flatten()) for weight in network.parameters())


class Attention(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(2).unflatten(2, (4, -1))  # (B, 3, 4, 16): three heads, four tokens of 16
        return F.scaled_dot_product_attention(tokens, tokens, tokens).flatten(1)


def test_attention_counts_its_two_products() -> None:
    network = FaceNetwork(Attention(), nn.Identity(), image_size=(8, 8), embedding_dim=192)
    assert flops(network) == 3 * 2 * (4 * 4 * 16)


def test_counting_leaves_the_network_alone() -> None:
    network = create_model("mbf", scale=1, width=0.5).train()
    network.backbone.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    assert flops(network) == summary("mbf", scale=1, width=0.5).flops
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_sizes_follow_image_and_embedding() -> None:
    small, large = summary("r18", image_size=(112, 96), embedding_dim=128), summary("r18")
    assert small.embedding_dim == 128
    assert large.parameters - small.parameters == 512 * 7 * 7 * 512 + 512 - 512 * 7 * 6 * 128 - 128 + 2 * (512 - 128)
    body, fc = large.flops - 512 * 7 * 7 * 512, 512 * 7 * 6 * 128
    assert small.flops == body * 6 // 7 + fc


def test_nothing_is_allocated() -> None:
    summary("r18")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert summary("r200").state_bytes > 450 * 2**20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 * 1024


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UserError, match="nearest: 'r50'"):
        summary("r5")
