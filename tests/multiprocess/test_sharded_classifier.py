"""1, 2, 3 and 4 processes give the loss and the gradients of one on the whole batch, for every margin."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from processes import spawn
from torch import Tensor, nn

from faceprint.classifier import PartialFC, TripletLoss
from faceprint.margins import MARGINS
from faceprint.margins.plain import Plain

C, D, F = 11, 6, 5
SIZES = {1: [9], 2: [5, 4], 3: [2, 4, 3], 4: [3, 1, 3, 2]}
OPTIONS: dict[str, dict[str, Any]] = {
    "whole": {},
    "sampled": {"sample_rate": 0.5, "same_for_any_world": True},
    "sub-centres, smoothed": {"sub_centers": 2, "label_smoothing": 0.1},
    "weighted": {"class_weights": torch.linspace(0.1, 2.0, C)},
}


def build_margin(name: str) -> Plain:
    factory = MARGINS[name]
    options = {"num_classes": C} if "num_classes" in factory.__init__.__annotations__ else {}
    return factory(**options)  # pyright: ignore


def step(margins: list[str], options: dict[str, Any], mine: slice) -> dict[str, list[Tensor]]:
    """Two steps of a linear network and a classifier for each margin, in this process."""
    results: dict[str, list[Tensor]] = {}
    generator = torch.Generator().manual_seed(4)
    images = torch.randn(2, 9, F, generator=generator)
    labels = torch.randint(C, (2, 9), generator=generator)
    for name in margins:
        torch.manual_seed(0)
        classifier = PartialFC(D, C, build_margin(name), **options)
        network = nn.Linear(F, D)
        nn.init.normal_(network.weight, generator=torch.Generator().manual_seed(1))
        nn.init.zeros_(network.bias)
        optimizer = classifier.make_optimizer(0.05)
        found: list[Tensor] = []
        for number in range(2):
            network.zero_grad()
            loss = classifier(network(images[number, mine]), labels[number, mine])
            loss.backward()
            for weight in network.parameters():
                assert weight.grad is not None
                if dist.is_initialized():  # as DistributedDataParallel does
                    dist.all_reduce(weight.grad)
                    weight.grad /= dist.get_world_size()
                found.append(weight.grad.clone())
            optimizer.step()
            optimizer.zero_grad()
            found.append(loss.detach())
        results[name] = [classifier.centres.detach().clone(), *found, *margin_state(classifier.margin)]
    return results


def margin_state(margin: Plain) -> list[Tensor]:
    return [value.detach().clone().float() for value in margin.state_dict().values()]


def process(rank: int, sizes: list[int], options: dict[str, Any], folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", store, rank=rank, world_size=len(sizes), timeout=timedelta(seconds=60))
    first = sum(sizes[:rank])
    torch.save(step(list(MARGINS), options, slice(first, first + sizes[rank])), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("options", list(OPTIONS))
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_loss_gradients_and_centres_are_those_of_one_process(processes: int, options: str, tmp_path: Path) -> None:
    sizes = SIZES[processes]
    spawn(process, (sizes, OPTIONS[options], str(tmp_path)), processes)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(processes)]
    whole = step(list(MARGINS), OPTIONS[options], slice(0, 9))
    assert len(whole) == 13
    for name, expected in whole.items():
        centres = torch.cat([part[name][0] for part in parts])
        assert torch.allclose(centres, expected[0], rtol=1e-4, atol=1e-5), name
        for part in parts:
            for one, other in zip(part[name][1:], expected[1:], strict=True):
                scale = max(1.0, float(other.abs().max()))
                assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * scale), name


def triplet_step(mine: slice) -> dict[str, list[Tensor]]:
    """Loss, gradient and statistics of a linear network under each kind of mining, in this process."""
    generator = torch.Generator().manual_seed(4)
    images, labels = torch.randn(9, F, generator=generator), torch.tensor([0, 1, 1, 2, 0, 3, 2, 1, 0])
    results: dict[str, list[Tensor]] = {}
    for mining in ("batch_hard", "semi_hard"):
        weight = torch.randn(D, F, generator=torch.Generator().manual_seed(1)).requires_grad_()
        loss, seen = TripletLoss(0.8, mining).measure(images[mine] @ weight.T, labels[mine])  # pyright: ignore
        loss.backward()
        assert weight.grad is not None
        if dist.is_initialized():  # as DistributedDataParallel does
            dist.all_reduce(weight.grad)
            weight.grad /= dist.get_world_size()
        statistics = [seen.target_cosine, seen.lowest_cosine, seen.accuracy, seen.embedding_norm]
        results[mining] = [loss.detach(), weight.grad, *statistics]
    return results


def triplet_process(rank: int, sizes: list[int], folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", store, rank=rank, world_size=len(sizes), timeout=timedelta(seconds=60))
    first = sum(sizes[:rank])
    torch.save(triplet_step(slice(first, first + sizes[rank])), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_triplets_are_those_of_the_whole_batch(processes: int, tmp_path: Path) -> None:
    spawn(triplet_process, (SIZES[processes], str(tmp_path)), processes)
    whole = triplet_step(slice(0, 9))
    for rank in range(processes):
        part = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for mining, expected in whole.items():
            for one, other in zip(part[mining], expected, strict=True):
                assert torch.allclose(one, other, rtol=1e-5, atol=1e-6), mining
