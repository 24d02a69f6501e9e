from __future__ import annotations

import math
from typing import Any

import pytest

from faceprint.assignments import override
from faceprint.recipe import validate
from faceprint.training.plan import Plan, build_schedule
from faceprint.training.schedule import make_schedule


def schedule(name: str, **changes: Any) -> list[float]:
    keys: dict[str, Any] = {
        "total_steps": 10, "warmup_steps": 0, "milestones": [], "factor": 0.1, "power": 2.0, "final": 0.0, **changes
    }  # fmt: skip
    at = make_schedule(name, **keys)
    return [at(step) for step in range(keys["total_steps"])]


def test_step() -> None:
    made = schedule("step", milestones=[3, 6.5])
    assert made == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])


def test_polynomial_and_cosine_by_formula() -> None:
    polynomial = schedule("polynomial", warmup_steps=2, final=0.1)
    cosine = schedule("cosine", warmup_steps=2, final=0.1)
    assert polynomial[:2] == cosine[:2] == [0.5, 1.0]
    for step in range(2, 10):
        done = (step - 2) / 8
        assert polynomial[step] == pytest.approx(0.1 + 0.9 * (1 - done) ** 2)
        assert cosine[step] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


def test_constant_with_a_fractional_warmup() -> None:
    assert schedule("constant", warmup_steps=2.5)[:4] == pytest.approx([0.4, 0.8, 1.0, 1.0])


def plan_of(global_batch: int) -> Plan:
    return Plan(num_images=1000, num_classes=10, global_batch=global_batch, total_steps=1000, base_lr=0.1)


@pytest.mark.parametrize(
    ("assignments", "global_batch", "change_at"),
    [
        # Epochs of 1,000 images: milestone 2 is image 2,000 whatever the batch.
        (["schedule.unit=epoch", "schedule.milestones=[2]"], 100, 20),
        (["schedule.unit=epoch", "schedule.milestones=[2]"], 50, 40),
        # Steps of the reference batch: 20 steps of 100 images are 40 of 50.
        (["schedule.unit=step", "schedule.milestones=[20]", "reference_batch=100"], 100, 20),
        (["schedule.unit=step", "schedule.milestones=[20]", "reference_batch=100"], 50, 40),
        (["schedule.unit=step", "schedule.milestones=[20]"], 50, 20),
    ],
)
def test_milestones_follow_the_images_seen(assignments: list[str], global_batch: int, change_at: int) -> None:
    config = validate(override({"data": {"source": "synthetic"}, "steps": 1}, assignments))
    at = build_schedule(config, plan_of(global_batch))
    assert at(change_at - 1) == 1.0
    assert at(change_at) == pytest.approx(0.1)
