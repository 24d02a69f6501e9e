"""Strided depthwise convolution with a backward pass that is quick on CPUs in bfloat16.

oneDNN (torch 2.13, AVX-512 bf16) takes 3 to 10 times longer for the gradients of a strided depthwise convolution than
for those of the same convolution at stride 1, though that one is four times the work. Three such layers were 30 % of a
training step of MobileFaceNet. Their gradients are therefore computed at stride 1, the output's gradient spread over
every other place and zero between: the same sums, in the same order of accumulation per weight.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STRIDE = 2


@torch.library.custom_op("faceprint::strided_depthwise", mutates_args=())
def strided_depthwise(x: Tensor, weight: Tensor, padding: int) -> Tensor:
    """(B, C, H, W) by (C, 1, k, k), stride 2 -> (B, C, h, w), h = (H + 2 padding - k) // 2 + 1; one dtype for all."""
    return F.conv2d(x, weight, None, _STRIDE, padding, 1, x.shape[1])


@strided_depthwise.register_fake
def _fake_forward(x: Tensor, weight: Tensor, padding: int) -> Tensor:
    return F.conv2d(x, weight, None, _STRIDE, padding, 1, x.shape[1])


@torch.library.custom_op("faceprint::strided_depthwise_backward", mutates_args=())
def strided_depthwise_backward(grad: Tensor, x: Tensor, weight: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """Gradients of `strided_depthwise` by x and weight, given that by its output."""
    height, width = (side + 2 * padding - weight.shape[-1] + 1 for side in x.shape[2:])
    spread = torch.empty(
        (x.shape[0], x.shape[1], height, width), dtype=grad.dtype, device=x.device, memory_format=torch.channels_last
    ).zero_()
    spread[:, :, ::_STRIDE, ::_STRIDE] = grad
    by_input, by_weight, _ = torch.ops.aten.convolution_backward(
        spread, x, weight, None, [1, 1], [padding, padding], [1, 1], False, [0, 0], x.shape[1], [True, True, False]
    )
    return by_input, by_weight


@strided_depthwise_backward.register_fake
def _fake_backward(grad: Tensor, x: Tensor, weight: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weight)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
    x, weight, ctx.padding = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    return *strided_depthwise_backward(grad, *ctx.saved_tensors, ctx.padding), None


strided_depthwise.register_autograd(_backward, setup_context=_save)


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` with one filter a channel, no bias; (B, C, H, W) -> (B, C, h, w).

    Trained on a CPU under bfloat16 autocast, a stride of 2 takes the quick backward pass; all else is `nn.Conv2d`.
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        on_cpu = input.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if self.training and self.stride[0] == _STRIDE and on_cpu and torch.get_autocast_dtype("cpu") == torch.bfloat16:
            return strided_depthwise(input.bfloat16(), self.weight.bfloat16(), int(self.padding[0]))
        return super().forward(input)
