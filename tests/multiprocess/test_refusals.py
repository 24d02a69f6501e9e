"""What is wrong in one process alone stops all of them, in the same words."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from processes import spawn

from faceprint.classifier import estimate
from faceprint.classifier.estimate import HeadPlan
from faceprint.errors import UserError
from faceprint.margins import CosFace


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/s", rank=rank, world_size=2, timeout=timedelta(seconds=30))
    estimate.free_bytes = lambda device: 100 if rank == 1 else 2**40
    try:
        HeadPlan(num_classes=100, embedding_dim=8, processes=2).estimate(CosFace(), torch.device("cpu"))
    except UserError as error:
        Path(folder, str(rank)).write_text(str(error))
    dist.destroy_process_group()


def test_memory_that_one_process_lacks_stops_all(tmp_path: Path) -> None:
    spawn(process, (str(tmp_path),), 2)
    said = [(tmp_path / str(rank)).read_text() for rank in range(2)]
    assert said[0] == said[1]
    assert said[0].startswith("rank 1: 100 identities need")
