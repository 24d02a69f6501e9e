"""A student of two processes has the losses of one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from test_training_worlds import SMALL, Job, largest_difference, losses, trained


def test_two_processes_distil_as_one(tmp_path: Path, outcome: Callable[..., None]) -> None:
    """The teacher's embeddings have more dimensions, so that the projection, which trains with a large rate, counts."""
    trained(1, Job(f"{tmp_path}/teacher", ("steps=2", "network.embedding_dim=24")))
    student = (f"distillation.teacher={tmp_path}/teacher", "distillation.weight=5.0", "network.options.norm=syncbn")
    rate = f"optimizer={{lr: 0.5, clip_norm: 5.0, lr_factors: {{'*': {SMALL}}}}}"
    (one,), (two,) = (trained(n, Job(f"{tmp_path}/{n}", (*student, rate, "steps=6"))) for n in (1, 2))
    assert losses(two) == pytest.approx(losses(one), rel=1e-3)
    assert losses(one)[-1] != pytest.approx(losses(one)[0], rel=1e-3)
    outcome("2 processes beside one: distillation", largest_difference_of_losses=f"{largest_difference(two, one):.1e}")
