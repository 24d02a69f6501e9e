"""Fine-tuning on other people begins the same for any number of processes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from faceprint.recipe import validate
from faceprint.training.loop import train
from faceprint.training.run import open_run
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


def start(folder: str, data: dict[str, Any]) -> Any:
    return build_trainer(validate({**TINY, "data": data, "init_from": f"{folder}/old", "dry_run": True}))


def process(rank: int, folder: str, data: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store{data['identities']}"
    dist.init_process_group("gloo", store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    trainer = start(folder, data)
    torch.save((trainer.classifier.centres.detach(), trainer.origin), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    run = open_run(validate({**TINY, "out": str(tmp_path / "old")}))
    train(run, lambda record: None)
    return tmp_path


@pytest.mark.parametrize(
    ("data", "words"), [(OTHERS, "2 taken over by name, 5 new, 4 dropped"), (TINY["data"], "from")]
)
def test_two_processes_start_like_one(old: Path, data: dict[str, Any], words: str) -> None:
    alone = start(str(old), data)
    mp.spawn(process, (str(old), data), nprocs=2)
    parts = [torch.load(old / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert torch.allclose(torch.cat([centres for centres, _ in parts]), alone.classifier.centres, atol=1e-6)
    assert words in alone.origin
    assert [origin for _, origin in parts] == [alone.origin] * 2
