"""The network in several processes, with gradients averaged after each step's last pass.

By DistributedDataParallel every process has all weights; by FSDP2 (`fully_shard`) each has a share of every weight and
of what its optimiser remembers of it, and the others' are sent when a block is computed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import signature
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage] - what all of them are
from torch.nn.parallel import DistributedDataParallel

from faceprint.config import Distributed
from faceprint.distributed import world_size
from faceprint.errors import UserError
from faceprint.models import FaceNetwork

# Newer releases of torch warn of the older name.
_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)
HOOKS = {"bf16": default_hooks.bf16_compress_hook, "fp16": default_hooks.fp16_compress_hook}


class Replicas:
    """`network` as one of `world_size()` equal ones; `forward` is what a step calls, compiled on request.

    With `distributed.strategy=fsdp` the weights of `network` become shares of them, so that its optimiser must be made
    afterwards. `precision` is what they may travel in then.
    """

    def __init__(
        self, network: FaceNetwork, device: torch.device, config: Distributed, precision: torch.dtype, *, compiled: bool
    ) -> None:
        self._network = network
        self._ddp: DistributedDataParallel | None = None
        self._static_graph = config.static_graph
        self._unsharded: FaceNetwork | None = None
        if world_size() > 1 and config.strategy == "fsdp":
            self._unsharded = copy.deepcopy(network).cpu()
            _shard(network, device, precision)
        elif world_size() > 1:
            self._ddp = _wrap(network, device, config)
        whole = network if self._ddp is None else self._ddp
        self.forward: Callable[[Tensor], Tensor] = torch.compile(whole) if compiled else whole

    def keeping_gradients(self) -> AbstractContextManager[None]:
        """Inside it gradients stay in their process: for all passes of a step but the last, unless the graph is
        static."""
        if self._unsharded is not None:
            return _unreduced(cast(FSDPModule, self._network))
        if self._ddp is None or self._static_graph:  # a static graph cannot do without; the mean of means is the same
            return nullcontext()
        return self._ddp.no_sync()

    def whole(self) -> FaceNetwork:
        """The network with all its weights, which is the network itself unless it is sharded. All must call it."""
        if self._unsharded is None:
            return self._network
        state = {name: _full(value) for name, value in self._network.state_dict().items()}
        device = next(iter(state.values())).device
        self._unsharded.load_state_dict(state)
        return copy.deepcopy(self._unsharded).to(device)


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


def _shard(network: FaceNetwork, device: torch.device, precision: torch.dtype) -> None:
    """Each block of the backbone is sent as one; the rest, whose output is float32, stays whole within a step."""
    network.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue] - shares are cut along dimension 0
    mesh = init_device_mesh(device.type, (world_size(),))
    for stage in network.backbone.children():
        for block in stage if isinstance(stage, nn.Sequential) else ():
            if any(True for _ in block.parameters()):
                fully_shard(block, mesh=mesh, mp_policy=_policy(block, device, precision))
    fully_shard(network, mesh=mesh)


def _policy(block: nn.Module, device: torch.device, precision: torch.dtype) -> MixedPrecisionPolicy:
    """The loop's autocast chooses the types of operations; this says what the weights of `block` travel in alone.

    Torch's batch norm, and on the CPU its layer norm, take float32 weights only: blocks of those travel as they are.
    """
    plain = device.type == "cpu" or any(isinstance(module, _BatchNorm) for module in block.modules())
    travels = None if plain else precision
    return MixedPrecisionPolicy(param_dtype=travels, reduce_dtype=torch.float32, cast_forward_inputs=False)


@contextmanager
def _unreduced(network: FSDPModule) -> Generator[None]:
    network.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        network.set_requires_gradient_sync(True)


def _full(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


def gathered(state: Any) -> Any:
    """`state` with every share of a tensor replaced by the whole, in CPU memory. All processes must call it."""
    if isinstance(state, DTensor):
        return state.full_tensor().cpu()
    if isinstance(state, Mapping):
        return {key: gathered(value) for key, value in cast("Mapping[Any, Any]", state).items()}
    if isinstance(state, list):
        return [gathered(value) for value in cast("list[Any]", state)]
    return state


def load_network(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """`load_state_dict` of whole tensors, of which a sharded network takes its share."""
    own = network.state_dict()
    network.load_state_dict({name: _like(own[name], value) if name in own else value for name, value in state.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """`load_state_dict` of whole tensors, of which the optimiser of a sharded network takes its share.

    Its options stay those that it was made with. Raises `UserError` for the state of another kind of optimiser.
    """
    own = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    if any(("betas" in group) != ("betas" in own[0]) for group in state["param_groups"]):
        raise UserError("optimizer.name: the checkpoint has the state of the other kind; init_from starts a new run")
    optimizer.load_state_dict(state)
    for group, options in zip(optimizer.param_groups, own, strict=True):
        group.update(options)
    for parameter, remembered in optimizer.state.items():
        for name, value in remembered.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                remembered[name] = _like(parameter, value)


def _like(own: Tensor, whole: Tensor) -> Tensor:
    if not isinstance(own, DTensor):
        return whole
    # Without a source every process takes its share of what it has itself.
    return distribute_tensor(whole.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def total_norm(gradients: list[Tensor]) -> Tensor:
    """Length of all `gradients` together, a float32 scalar; of shares, that of the whole."""
    sharded = [gradient for gradient in gradients if isinstance(gradient, DTensor)]
    if 0 < len(sharded) < len(gradients):  # torch takes no mixture
        whole = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
        return torch.hypot(total_norm(cast("list[Tensor]", sharded)), total_norm(whole))
    return _full(nn.utils.get_total_norm(gradients)).float()


@torch.no_grad()
def average_buffers(network: nn.Module) -> None:
    """Give every process the mean over processes of the network's buffers, such as BN's running moments.

    They follow each process's own images and serve evaluation alone, so this is done before they are used or saved.
    """
    if world_size() == 1:
        return
    for buffer in moments([network]):
        dist.all_reduce(buffer)
        buffer.div_(world_size())


def moments(networks: Iterable[nn.Module]) -> list[Tensor]:
    """The buffers that `average_buffers` averages."""
    return [buffer for network in networks for buffer in network.buffers() if buffer.is_floating_point()]


@contextmanager
def averaged(networks: Sequence[nn.Module]) -> Generator[list[Tensor]]:
    """`average_buffers` inside; afterwards every process has its own again, copies of which are given.

    A mean that stayed would round the moments of every later step: a run that is saved once more would be another.
    """
    own = [buffer.detach().clone() for buffer in moments(networks)]
    for network in networks:
        average_buffers(network)
    try:
        yield own
    finally:
        set_moments(networks, own)


@torch.no_grad()
def set_moments(networks: Iterable[nn.Module], values: Iterable[Tensor]) -> None:
    """Put back what `averaged` gave; networks beyond those that it was given keep theirs."""
    for buffer, value in zip(moments(networks), values, strict=False):
        buffer.copy_(value)
