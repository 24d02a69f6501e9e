from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faceprint.assignments import override
from faceprint.config import Config
from faceprint.recipe import validate
from faceprint.training.loop import Outcome, train
from faceprint.training.opening import open_run
from faceprint.training.run import Run

TINY: dict[str, Any] = {
    "network": {"name": "mbf", "embedding_dim": 16, "image_size": [32, 32], "options": {"scale": 1}},
    "margin": {"name": "cosface", "options": {"scale": 16.0, "margin": 0.1}},
    "data": {"source": "synthetic", "identities": 6, "images_per_identity": 5},
    "loader": {"workers": 0},
    "batch_size": 8,
    "steps": 6,
    "optimizer": {"lr": 0.05},
    "evaluation": {"every": 0},
    "checkpoint": {"every": 0},
    "log": {"every": 2},
    "device": "cpu",
}


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Config]:
    """A configuration that trains in a second, with `key=value` changes; its run folder is `tmp_path/run`."""
    return lambda *assignments: validate(override(TINY, [f"out={tmp_path}/run", *assignments]))


@pytest.fixture
def trained() -> Callable[[Config], tuple[Run, Outcome, list[dict[str, Any]]]]:
    def run(config: Config) -> tuple[Run, Outcome, list[dict[str, Any]]]:
        records: list[dict[str, Any]] = []
        opened = open_run(config)
        return opened, train(opened, records.append), records

    return run
