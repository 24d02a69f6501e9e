"""The numbers of a run that follow from configuration and data: batches, steps, learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from faceprint.config import Config
from faceprint.data.source import Source
from faceprint.distributed import world_size
from faceprint.training.schedule import make_schedule
from faceprint.training.sources import epoch_images


@dataclass(frozen=True)
class Plan:
    """Numbers derived from configuration and data."""

    num_images: int
    """Of one epoch."""
    num_classes: int
    global_batch: int
    total_steps: int
    base_lr: float
    """The recipe's learning rate scaled from the reference batch to the global batch."""
    accumulate: int = 1
    """Passes of the network in each process that make one step."""

    def epoch(self, step: int) -> float:
        """Epochs done after `step` steps."""
        return step * self.global_batch / self.num_images


def make_plan(config: Config, source: Source) -> Plan:
    accumulate = choose_accumulate(config)
    global_batch = config.batch_size * world_size() * accumulate
    num_images = epoch_images(source)
    steps = config.steps or math.ceil((config.epochs or 0) * num_images / global_batch)
    return Plan(
        num_images=num_images,
        num_classes=len(source.class_names),
        global_batch=global_batch,
        accumulate=accumulate,
        total_steps=max(1, steps),
        base_lr=config.optimizer.lr * global_batch / (config.reference_batch or global_batch),
    )


def choose_accumulate(config: Config) -> int:
    """Passes a step: those asked for, or as many as bring the global batch nearest to `reference_batch`."""
    if config.accumulate != "auto":
        return config.accumulate
    one_pass = config.batch_size * world_size()
    return max(1, round((config.reference_batch or one_pass) / one_pass))


def build_schedule(config: Config, plan: Plan) -> Callable[[int], float]:
    """The schedule in steps of the actual batch, whatever unit and reference batch it is stated in."""
    schedule = config.schedule
    reference_batch = config.reference_batch or plan.global_batch
    images = plan.num_images if schedule.unit == "epoch" else reference_batch
    steps_per_unit = images / plan.global_batch
    return make_schedule(
        schedule.name,
        total_steps=plan.total_steps,
        warmup_steps=schedule.warmup * steps_per_unit,
        milestones=[milestone * steps_per_unit for milestone in schedule.milestones],
        factor=schedule.factor,
        power=schedule.power,
        final=schedule.final,
    )
