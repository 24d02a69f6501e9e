"""A process leaves the world and goes on, whatever still holds the process group then."""

from __future__ import annotations

import multiprocessing
import os

import torch
from processes import free_ports
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from faceprint.distributed import by_first_rank, world

TIMES = 25


def train_a_little() -> None:
    """As `train` does: the network is in scope until after the world's end."""
    with world(timeout_seconds=30):
        network = DistributedDataParallel(nn.Linear(4, 4))
        network(torch.ones(2, 4)).sum().backward()
        for _ in range(3):
            by_first_rank(lambda: None)


def process(rank: int, ports: list[int]) -> None:
    torch.set_num_threads(1)
    for port in ports:
        os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        train_a_little()


def test_a_network_that_outlives_the_world_does_not_stop_the_process() -> None:
    context = multiprocessing.get_context("spawn")
    ports = free_ports(TIMES)
    processes = [context.Process(target=process, args=(rank, ports), daemon=True) for rank in range(2)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(75)
    stuck = [rank for rank, each in enumerate(processes) if each.is_alive()]
    for each in processes:
        each.kill()
        each.join()
    assert stuck == []
    assert [each.exitcode for each in processes] == [0, 0]
