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


class _GatherBatch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        return _gather_uneven(rows, sizes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total = grads[0].contiguous()
        dist.all_reduce(total)
        first = sum(ctx.sizes[: rank()])
        # Times the world: DistributedDataParallel averages over processes what is a sum here.
        return total[first : first + ctx.sizes[rank()]] * world_size(), None


def gather_batch(rows: Tensor) -> Tensor:
    """Every process's rows (B_i, …), of any number each, as one batch (sum B_i, …) in rank order, with gradient.

    Each process computes part of the loss over the whole batch. The gradient that comes back is the sum over
    processes, times their number, so that averaging the network's gradients, as DistributedDataParallel does, gives
    the gradient of the mean loss over the whole batch. Every process must call it, forward and backward.
    """
    if world_size() == 1:
        return rows
    sizes = gather_rows(torch.tensor(len(rows), device=rows.device)).tolist()
    if not rows.requires_grad:
        return _gather_uneven(rows, sizes)
    return _GatherBatch.apply(rows, sizes)  # pyright: ignore[reportReturnType]


def _gather_uneven(rows: Tensor, sizes: list[int]) -> Tensor:
    padded = rows.new_zeros(max(sizes), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    gathered = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(gathered, padded)
    return torch.cat([part[:size] for part, size in zip(gathered, sizes, strict=True)])
