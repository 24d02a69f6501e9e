"""The world of processes. A world of one, and a program that never started a process group, take the same path."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Processes in the world; 1 where no process group was started."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number in the world, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        gathered = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(gathered, tensor.contiguous())
        return torch.stack(gathered)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # Every process used every row; the gradient of the sum of all their losses is the sum over processes.
        total = grads[0].contiguous()
        dist.all_reduce(total)
        return total[rank()]


def gather_rows(tensor: Tensor) -> Tensor:
    """Tensors of one shape from all processes, stacked in rank order: (…) -> (world, …), with gradient.

    The gradient is that of the sum of all processes' losses. Every process must call it, forward and backward.
    """
    if world_size() == 1:
        return tensor.unsqueeze(0)
    return _Gather.apply(tensor)  # pyright: ignore[reportReturnType]
