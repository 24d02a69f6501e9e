"""Activation checkpointing: a block's inside is computed again in the backward pass instead of being kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def checkpointed(blocks: nn.Sequential, x: Tensor) -> Tensor:
    """`blocks(x)`, of which a training step keeps each block's input only.

    Norms move their running moments in the first pass alone: by default the second would move them once more.
    """
    for block in blocks:
        x = checkpoint(block, x, use_reentrant=False, context_fn=lambda block=block: _contexts(block))  # pyright: ignore[reportAssignmentType]
    return x


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _still_moments(block)


@contextmanager
def _still_moments(block: nn.Module) -> Iterator[None]:
    moments = [
        (module, module.momentum)
        for module in block.modules()
        if isinstance(getattr(module, "running_mean", None), Tensor) and hasattr(module, "momentum")
    ]
    for module, _ in moments:
        module.momentum = 0.0
    try:
        yield
    finally:
        for module, momentum in moments:
            module.momentum = momentum
