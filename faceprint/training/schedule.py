"""Schedules of the learning rate, and of a margin's options: pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from faceprint.registry import Table


def step_factor(position: float, milestones: Sequence[float], factor: float) -> float:
    """`factor` to the power of how many milestones lie at or before `position` (all in steps)."""
    return factor ** sum(position >= milestone for milestone in milestones)


def polynomial_factor(progress: float, power: float, final: float) -> float:
    """final + (1 - final) (1 - progress)^power."""
    return final + (1.0 - final) * (1.0 - progress) ** power


def cosine_factor(progress: float, power: float, final: float) -> float:
    """final + (1 - final) (1 + cos(π progress)) / 2; `power` is not used."""
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


def constant_factor(progress: float, power: float, final: float) -> float:
    """1 throughout."""
    return 1.0


DECAYS: Table[Callable[[float, float, float], float]] = Table(
    "schedule",
    [("polynomial", polynomial_factor), ("cosine", cosine_factor), ("constant", constant_factor)],
)


def make_schedule(
    name: str,
    *,
    total_steps: int,
    warmup_steps: float,
    milestones: Sequence[float],
    factor: float,
    power: float,
    final: float,
) -> Callable[[int], float]:
    """A function step (from 0) -> factor of the base learning rate, for `total_steps` steps.

    The factor rises linearly over `warmup_steps` (step 0 gets 1/warmup_steps, never 0), then follows the schedule:
    "step" multiplies by `factor` at each of `milestones` (steps from the start of the run); the others decay over the
    steps that are left after the warm-up and reach their end value after the last one.
    """
    decay = None if name == "step" else DECAYS[name]

    def at(step: int) -> float:
        if step < warmup_steps:
            return min(1.0, (step + 1) / warmup_steps)
        if decay is None:
            return step_factor(step, milestones, factor)
        return decay(min(1.0, (step - warmup_steps) / max(1.0, total_steps - warmup_steps)), power, final)

    return at


def piecewise_linear(points: Sequence[tuple[float, float]], position: float) -> float:
    """The value at `position` on straight lines between `points` (position, value), whose positions rise; before the
    first and after the last point it is theirs."""
    for (left, low), (right, high) in pairwise(points):
        if left <= position < right:
            return low + (high - low) * (position - left) / (right - left)
    return points[0][1] if position < points[0][0] else points[-1][1]
