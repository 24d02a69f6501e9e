from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceprint.models import create_model
from faceprint.models.depthwise import DepthwiseConv2d, strided_depthwise


def gradients(output: Tensor, by: list[Tensor]) -> tuple[Tensor, ...]:
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)
    return torch.autograd.grad((output * weights).sum(), by)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(8, 8), (7, 6), (5, 9)])
def test_output_and_gradients_are_those_of_the_convolution(size: tuple[int, int], kernel: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, *size, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(4, 1, kernel, kernel, dtype=torch.float64, generator=generator, requires_grad=True)
    ours = strided_depthwise(x, weight, kernel // 2)
    plain = F.conv2d(x, weight, None, 2, kernel // 2, 1, 4)
    assert torch.equal(ours, plain)
    for one, other in zip(gradients(ours, [x, weight]), gradients(plain, [x, weight]), strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_the_operator_keeps_torchs_contract() -> None:
    x, weight = torch.randn(2, 4, 7, 6, requires_grad=True), torch.randn(4, 1, 3, 3, requires_grad=True)
    torch.library.opcheck(strided_depthwise, (x, weight, 1))


def test_under_bf16_the_layer_gives_the_plain_layers_gradients_to_bf16_precision() -> None:
    torch.manual_seed(0)
    layer = DepthwiseConv2d(8, 3, 2)
    plain = nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(4, 8, 14, 14, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = layer(x), plain(x)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    assert "strided_depthwise" in type(ours.grad_fn).__name__.lower() + str(ours.grad_fn).lower()
    for one, other in zip(
        gradients(ours.float(), [x, layer.weight]), gradients(theirs.float(), [x, plain.weight]), strict=True
    ):
        assert (one - other).abs().max() <= 0.01 * other.abs().max()


def test_strided_depthwise_layers_of_mobilefacenet_are_these() -> None:
    layers = [module for module in create_model("mbf").modules() if isinstance(module, DepthwiseConv2d)]
    assert sum(layer.stride == (2, 2) for layer in layers) == 3
