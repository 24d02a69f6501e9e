"""What keeps a training from running on when it no longer learns: steps that are not finite, and a stuck loss."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from faceprint.classifier import PartialFC
from faceprint.distributed import world_size
from faceprint.training.profile import part
from faceprint.training.replicas import total_norm
from faceprint.training.trainer import Trainer

MIN_SCALE = 1.0
"""The loss scale of fp16 falls no lower: below it gradients vanish, and nothing is learnt without a word."""
STUCK_SHARE = 0.98
"""A loss that is still above this share of the first one, and no better than chance at naming people, is stuck."""
BLOCK = 1 << 16


class Guard:
    """Leaves out steps whose loss or gradient is not finite, with running moments put back to before them."""

    def __init__(self, trainer: Trainer, limit: int) -> None:
        self.limit = limit
        self.in_a_row = 0
        self._trainer = trainer
        self._buffers = [
            buffer
            for module in (trainer.network, *trainer.margins())
            for buffer in module.buffers()
            if buffer.is_floating_point()
        ]
        self._good = [buffer.clone() for buffer in self._buffers]

    def admits(self, loss: float, norm: float) -> bool:
        """Whether the step may be taken. Calls with a non-finite number count as `in_a_row`.

        With fp16 an infinite gradient alone is part of finding the loss scale, as long as that can fall.
        """
        scaler = self._trainer.scaler
        searching = scaler.is_enabled() and math.isfinite(loss) and scaler.get_scale() > MIN_SCALE
        if math.isfinite(norm) or searching:
            self.in_a_row = 0 if math.isfinite(norm) else self.in_a_row
            _copy(self._good, self._buffers)
            return True
        self.in_a_row += 1
        _copy(self._buffers, self._good)
        return False

    @property
    def exhausted(self) -> bool:
        return self.in_a_row > self.limit


@torch.no_grad()
def _copy(target: list[Tensor], source: list[Tensor]) -> None:
    for to, value in zip(target, source, strict=True):
        to.copy_(value)


@part("optimizer")
def gradient_norm(trainer: Trainer) -> Tensor:
    """Length of all gradients together, a float32 scalar, those of classes that other processes hold included.

    The loss scale of fp16 is taken off the network's gradients for good.
    """
    if trainer.scaler.is_enabled():
        trainer.scaler.unscale_(trainer.optimizer)
    of_head = _squared_length(trainer.head_gradients(), trainer.device)
    if world_size() > 1:
        dist.all_reduce(of_head)
    of_margins = _squared_length(trainer.margin_gradients(), trainer.device)
    return (total_norm(trainer.network_gradients()) ** 2 + of_head + of_margins).sqrt()


def _squared_length(gradients: list[Tensor], device: torch.device) -> Tensor:
    return nn.utils.get_total_norm(gradients).float() ** 2 if gradients else torch.zeros((), device=device)


def forget_step(scaler: torch.amp.GradScaler) -> None:
    """Let `scaler`, which has unscaled the gradients of a step that is left out, unscale those of the next one."""
    if scaler.is_enabled():
        scaler.update(scaler.get_scale())


def floor_scale(scaler: torch.amp.GradScaler) -> None:
    """Keep the loss scale of fp16 at `MIN_SCALE` or above."""
    if scaler.is_enabled() and scaler.get_scale() < MIN_SCALE:
        scaler.update(MIN_SCALE)


def loss_scale(scaler: torch.amp.GradScaler) -> dict[str, float]:
    """The figure `loss_scale` of fp16; nothing in other precisions."""
    return {"loss_scale": scaler.get_scale()} if scaler.is_enabled() else {}


@torch.no_grad()
def largest_logit(trainer: Trainer, images: Tensor) -> float | None:
    """The largest magnitude of a score of these images against this process's classes; None without classes."""
    trainer.network.eval()
    with trainer.autocast():
        embeddings = trainer.network(images).float()
    trainer.network.train()
    return max((_largest(head, embeddings) for head, _ in trainer.heads()), default=None)


def _largest(head: PartialFC, embeddings: Tensor) -> float:
    unit = nn.functional.normalize if head.margin.normalized else lambda rows: rows
    x = unit(embeddings)
    blocks = (unit(block.float()) for block in head.centres.detach().split(BLOCK))
    return max(float((x @ block.T).abs().amax()) for block in blocks) * float(getattr(head.margin, "scale", 1.0))


def is_stuck(first: dict[str, Any], now: dict[str, Any], num_classes: int) -> bool:
    """Whether the training record `now` is no better than the record `first` of the same run, and than guessing."""
    at_chance = now["train_accuracy"] <= 2.0 / num_classes
    return at_chance and now["loss"] > STUCK_SHARE * first["loss"]
