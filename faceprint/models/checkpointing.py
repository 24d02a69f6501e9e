"""Activation checkpointing: a block's inside is computed again in the backward pass instead of being kept."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

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
def _still_moments(block: nn.Module) -> Generator[None]:
    layers: list[Any] = [
        module for module in block.modules() if hasattr(module, "momentum") and hasattr(module, "running_mean")
    ]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
