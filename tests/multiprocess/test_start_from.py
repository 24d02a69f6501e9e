"""Fine-tuning on other people begins the same for any number of processes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from processes import spawn

from faceprint.recipe import validate
from faceprint.training.loop import train
from faceprint.training.opening import open_run
from faceprint.training.setup import build_trainer

TINY: dict[str, Any] = {
    "network": {"name": "mbf", "embedding_dim": 8, "image_size": [32, 32], "options": {"scale": 1}},
    "data": {"source": "synthetic", "identities": 6, "images_per_identity": 3},
    "loader": {"workers": 0},
    "batch_size": 6,
    "steps": 2,
    "optimizer": {"lr": 0.01},
    "margin": {"options": {"scale": 16.0, "margin": 0.1}},
    "classifier": {"class_weights": "inverse"},
    "device": "cpu",
}
OTHERS = {"source": "synthetic", "identities": 7, "images_per_identity": 2, "first_identity": 4}

SEVERAL = {
    "source": "mixed",
    "classes": "heads",
    "parts": [
        {"name": "a", "source": "synthetic", "identities": 5, "images_per_identity": 3},
        {"name": "b", "source": "synthetic", "identities": 3, "images_per_identity": 3, "seed": 1},
    ],
}


def start(folder: str, data: dict[str, Any]) -> Any:
    return build_trainer(validate({**TINY, "data": data, "init_from": f"{folder}/old", "dry_run": True}))


def centres(trainer: Any) -> list[torch.Tensor]:
    """Of each head, those of this process."""
    return [head.centres.detach() for head, _ in trainer.heads()]


def process(rank: int, folder: str, data: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store{len(str(data))}"
    dist.init_process_group("gloo", store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    trainer = start(folder, data)
    torch.save((centres(trainer), trainer.origin), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("before", "data", "words"),
    [
        (TINY["data"], OTHERS, "2 taken over by name, 5 new, 4 dropped"),
        (TINY["data"], TINY["data"], "from"),
        (SEVERAL, SEVERAL, "network and class centres from"),
    ],
    ids=["others", "same", "heads"],
)
def test_two_processes_start_like_one(tmp_path: Path, before: dict[str, Any], data: dict[str, Any], words: str) -> None:
    train(open_run(validate({**TINY, "data": before, "out": str(tmp_path / "old")})), lambda record: None)
    alone = start(str(tmp_path), data)
    spawn(process, (str(tmp_path), data), 2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for whole, *shares in zip(centres(alone), *(shares for shares, _ in parts), strict=True):
        assert torch.allclose(torch.cat(shares), whole, atol=1e-6)
    assert words in alone.origin
    assert [origin for _, origin in parts] == [alone.origin] * 2
