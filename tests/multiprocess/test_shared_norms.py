"""SyncSN and SyncBN on k processes equal SN and BN on the concatenated batch, gradients through the moments too."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from processes import spawn
from torch import Tensor, nn

from faceprint.models.norms import NORMS

CHANNELS = 6


def make(name: str, options: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    norm = NORMS[name](CHANNELS, 1e-5, **options).double()
    for weight in norm.parameters():
        weight.data.uniform_(0.5, 1.5)
    return norm


def batch(images: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(images, CHANNELS, 4, 3, dtype=torch.float64, generator=generator)
    x += torch.arange(images, dtype=torch.float64)[:, None, None, None]
    return x, torch.randn(x.shape, dtype=torch.float64, generator=generator)


def step(norm: nn.Module, x: Tensor, weights: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    y = norm(x)
    (y * weights).sum().backward()
    grads = {name: weight.grad for name, weight in norm.named_parameters()}
    running = {name: value.clone() for name, value in norm.named_buffers()}
    return {"y": y.detach(), "x": x.grad, **grads, **running}  # pyright: ignore


def process(rank: int, sizes: list[int], name: str, options: dict[str, Any], folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", store, rank=rank, world_size=len(sizes), timeout=timedelta(seconds=60))
    x, weights = batch(sum(sizes))
    first = sum(sizes[:rank])
    mine = slice(first, first + sizes[rank])
    torch.save(step(make(name, options), x[mine], weights[mine]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def on_processes(sizes: list[int], name: str, options: dict[str, Any], folder: Path) -> list[dict[str, Tensor]]:
    spawn(process, (sizes, name, options, str(folder)), len(sizes))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(len(sizes))]


@pytest.mark.parametrize(
    ("name", "alone", "sizes", "options"),
    [
        ("syncsn", "sn", [4, 4], {}),
        ("syncsn", "sn", [5, 2, 3], {}),
        ("syncbn", "bn", [3, 1, 2], {}),
        ("syncsn", "bn", [5, 2, 3], {"argmax": True}),  # hardened to batch statistics, a plain batch norm
        ("sn", "sn", [4, 4, 4, 4], {"stat_group": 8}),
        ("bn", "bn", [4, 4], {"stat_group": 2}),
    ],
)
def test_processes_equal_one_on_the_whole_batch(
    name: str, alone: str, sizes: list[int], options: dict[str, Any], tmp_path: Path
) -> None:
    parts = on_processes(sizes, name, options, tmp_path)
    norm = make(alone, {key: value for key, value in options.items() if key != "argmax"})
    whole = step(norm, *batch(sum(sizes)))
    for key in ("y", "x"):
        assert torch.allclose(torch.cat([part[key] for part in parts]), whole[key], atol=1e-9), key
    for key in dict(norm.named_parameters()):
        assert torch.allclose(torch.stack([part[key] for part in parts]).sum(0), whole[key], atol=1e-9), key
    for key in ("running_mean", "running_var"):
        shared = torch.stack([part[key] for part in parts]).mean(0)
        assert torch.allclose(shared, whole[key], atol=1e-9), key


def test_without_synchronisation_the_processes_differ(tmp_path: Path) -> None:
    parts = on_processes([4, 4], "sn", {}, tmp_path)
    whole = step(make("sn", {}), *batch(8))
    assert not torch.allclose(torch.cat([part["y"] for part in parts]), whole["y"], atol=1e-2)
