"""The network in several processes: the same weights in each, gradients averaged after each step's last pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from faceprint.config import Distributed
from faceprint.distributed import world_size

# Newer releases of torch warn of the older name.
_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)
HOOKS = {"bf16": default_hooks.bf16_compress_hook, "fp16": default_hooks.fp16_compress_hook}


class Replicas:
    """`network` as one of `world_size()` equal ones; `forward` is what a step calls, compiled on request."""

    def __init__(self, network: nn.Module, device: torch.device, config: Distributed, *, compiled: bool) -> None:
        self._ddp = _wrap(network, device, config) if world_size() > 1 else None
        whole = network if self._ddp is None else self._ddp
        self.forward: Callable[[Tensor], Tensor] = torch.compile(whole) if compiled else whole

    def keeping_gradients(self) -> AbstractContextManager[None]:
        """Inside it gradients stay in their process: for all passes of a step but the last."""
        return nullcontext() if self._ddp is None else self._ddp.no_sync()


def _wrap(network: nn.Module, device: torch.device, config: Distributed) -> DistributedDataParallel:
    options: dict[str, Any] = {_BUFFERS: False}  # see `average_buffers`
    ddp = DistributedDataParallel(
        network,
        device_ids=[device] if device.type == "cuda" else None,
        bucket_cap_mb=config.bucket_mb,
        gradient_as_bucket_view=True,
        static_graph=config.static_graph,
        **options,
    )
    if config.compress != "none":
        ddp.register_comm_hook(None, HOOKS[config.compress])
    return ddp


@torch.no_grad()
def average_buffers(network: nn.Module) -> None:
    """Give every process the mean over processes of the network's buffers, such as BN's running moments.

    They follow each process's own images and serve evaluation alone, so this is done before they are used or saved.
    """
    if world_size() == 1:
        return
    for buffer in network.buffers():
        if buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer.div_(world_size())
