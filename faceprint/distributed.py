"""The world of processes. A world of one, and a program that never started a process group, take the same path."""

from __future__ import annotations

import atexit
import ctypes
import os
import platform
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, Store, TCPStore  # pyright: ignore[reportPrivateImportUsage]

from faceprint.errors import UserError

T = TypeVar("T")

# Newer releases of torch warn of the older name.
_reduce_scatter: Callable[[Tensor, Tensor], object] = getattr(
    dist, "reduce_scatter_single" if hasattr(dist, "reduce_scatter_single") else "reduce_scatter_tensor"
)


LAUNCHER_PID = "FACEPRINT_LAUNCHER_PID"
"""In the environment: the process that started this one, where `faceprint train --processes` did."""

_left: list[object] = []
"""The groups that this process was in, until it ends. DistributedDataParallel holds its group too, and when it is the
last to do so, it ends the group's threads while it holds Python's lock, for which such a thread may just be waiting:
neither would ever go on. Nor may the threads outlive the interpreter: one that asks for the lock then aborts the
process. So the last to go is a Python object, which gives the lock away meanwhile, and it goes while Python still runs.
"""
atexit.register(_left.clear)


@contextmanager
def world(timeout_seconds: float = 600.0, meeting_seconds: float | None = None) -> Generator[None]:
    """Join the processes that a launcher such as torchrun started, and leave them at the end.

    The launcher says so in RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; without them, and in a world of one, this
    does nothing. Tensors in CPU memory go by gloo, those on CUDA devices by nccl; the process takes the device of its
    LOCAL_RANK. A collective that waits longer than `timeout_seconds` ends in an error. Raises `UserError` where not all
    processes come within `meeting_seconds` (by default the same time); it names those that are missing.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or world_size() > 1:
        yield
        return
    _end_with_launcher()
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    wait = timedelta(seconds=timeout_seconds if meeting_seconds is None else meeting_seconds)
    try:
        number, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        store = _meeting_point(number, wait)
        _call_roll(store, number, size, wait)
        dist.init_process_group(
            backend, store=store, rank=number, world_size=size, timeout=timedelta(seconds=timeout_seconds)
        )
    except UserError:
        raise
    except (RuntimeError, ValueError, KeyError) as error:  # DistNetworkError and DistStoreError are RuntimeErrors
        raise UserError(
            f"rank {os.environ.get('RANK', '?')} on {platform.node()} cannot join the other processes at"
            f" {master()}: {str(error).splitlines()[0]}; start all of them by torchrun, with one address and port of"
            " the first machine"
        ) from error
    _left.append(dist.group.WORLD)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _end_with_launcher() -> None:
    """Have Linux send SIGTERM to this process when torchrun dies: nobody would see it train on, or could stop it.

    Where `LAUNCHER_PID` says who that is, a launcher that is dead by now is seen too.
    """
    if sys.platform != "linux" or "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    pr_set_pdeathsig = 1  # sys/prctl.h
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGTERM), 0, 0, 0)
    if os.environ.get(LAUNCHER_PID, str(os.getppid())) != str(os.getppid()):
        signal.raise_signal(signal.SIGTERM)


def master() -> str:
    """ADDRESS:PORT where the processes of the world meet, as this one was told."""
    return f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"


def _meeting_point(number: int, wait: timedelta) -> Store:
    """The table of keys that all processes share; torchrun keeps it, or else rank 0 does."""
    kept_by_launcher = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=number == 0 and not kept_by_launcher,
        timeout=wait,
        wait_for_workers=False,  # that would end without saying who is missing
        multi_tenant=True,
    )
    return PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _call_roll(store: Store, number: int, size: int, wait: timedelta) -> None:
    """Wait until every process was here. Raises `UserError` with the ranks of those that were not."""
    keys = [f"here {each}" for each in range(size)]
    store.set(keys[number], platform.node())
    try:
        store.wait(keys, wait)
    except RuntimeError as error:
        missing = [str(each) for each, key in enumerate(keys) if not store.check([key])]
        raise UserError(
            f"of {size} processes {len(missing)} did not come to {master()} within {wait.total_seconds():g} s: rank"
            f" {', '.join(missing)}; see what they say on their machines, and that they were started with this address"
        ) from error


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
        # Each process gets the sum of its own rows alone; all parts are made as long as the longest.
        padded = grads[0].new_zeros(world_size(), max(ctx.sizes), *grads[0].shape[1:])
        for row, part in zip(padded, grads[0].split(ctx.sizes), strict=True):
            row[: len(part)] = part
        own = torch.empty_like(padded[0])
        _reduce_scatter(own, padded.flatten(0, 1))
        # Times the world: DistributedDataParallel averages over processes what is a sum here.
        return own[: ctx.sizes[rank()]] * world_size(), None


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


def gather_objects(value: T) -> list[T]:
    """Every process's `value`, in rank order. Every process must call it."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def by_first_rank(function: Callable[[], T]) -> T:
    """The value of `function`, called in rank 0 alone, in every process; its `UserError` is raised in every process.

    For what only one process should do, such as writing a file of the run.
    """
    if world_size() == 1:
        return function()
    outcome: list[Any] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = function()
        except UserError as error:
            outcome[1] = str(error)
    dist.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise UserError(outcome[1])
    return outcome[0]


def together(function: Callable[[], T]) -> T:
    """The value of `function`, called in every process; where it raises `UserError` in one, every process raises it.

    For what may fail in one process alone, before a collective that the others would wait in.
    """
    if world_size() == 1:
        return function()
    value, mistake = None, None
    try:
        value = function()
    except UserError as error:
        mistake = f"rank {rank()}: {error}"
    mistakes = [each for each in gather_objects(mistake) if each is not None]
    if mistakes:
        raise UserError(mistakes[0])
    return value  # pyright: ignore[reportReturnType]
