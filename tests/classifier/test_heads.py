"""Heads for several sets of classes: the mean over samples of what each head says alone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from processes import spawn
from torch import Tensor

from faceprint.classifier import Heads, PartialFC
from faceprint.errors import UserError
from faceprint.margins import AdaFace, CosFace, Softmax

CLASSES = (5, 3, 4)


def make(sample_rate: float = 1.0) -> Heads:
    torch.manual_seed(0)
    return Heads([PartialFC(6, count, AdaFace(scale=8.0), sample_rate, same_for_any_world=True) for count in CLASSES])


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(7, 6, generator=generator), torch.tensor([0, 6, 4, 5, 2, 7, 0])  # none of the third head


def test_the_loss_is_that_of_the_heads_apart() -> None:
    heads, apart = make(), make()
    embeddings, labels = batch()
    x, y = embeddings.clone().requires_grad_(), embeddings.clone().requires_grad_()
    loss, statistics = heads.measure(x, labels)
    first, second = list(apart)[:2]
    of_first = labels < 5
    one, seen = first.measure(y[of_first], labels[of_first])
    other, seen_too = second.measure(y[~of_first], labels[~of_first] - 5)
    expected = (4 * one + 3 * other) / 7
    assert torch.allclose(loss, expected)
    loss.backward()
    expected.backward()
    assert torch.allclose(x.grad, y.grad)  # pyright: ignore
    for mine, theirs in zip(heads.parameters(), apart.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        assert mine.grad is None or torch.allclose(mine.grad, theirs.grad)  # pyright: ignore
    assert statistics.target_cosine == pytest.approx((4 * seen.target_cosine + 3 * seen_too.target_cosine) / 7)
    assert (statistics.active_classes, statistics.positives) == (8, 6)


@pytest.mark.parametrize("sample_rate", [1.0, 0.5])
def test_a_head_without_samples_stays_as_it_is(sample_rate: float) -> None:
    heads = make(sample_rate)
    optimizer = heads.make_optimizer(0.1)
    before = [head.centres.detach().clone() for head in heads]
    embeddings, labels = batch()
    heads(embeddings.requires_grad_(), labels).backward()
    assert [len(head.gradients) for head in heads] == [sample_rate < 1, sample_rate < 1, 0]
    optimizer.step()
    optimizer.zero_grad()
    assert not any(head.gradients for head in heads)
    changed = [not torch.equal(old, head.centres) for old, head in zip(before, heads, strict=True)]
    assert changed == [True, True, False]


def test_adamw_counts_the_steps_that_a_head_had() -> None:
    """In the first one of a head each of its biases moves by the learning rate, whatever steps others had before."""
    heads = Heads([PartialFC(6, count, Softmax()) for count in CLASSES])
    optimizer = heads.make_optimizer(0.1, weight_decay=0.0, name="adamw")
    embeddings, labels = batch()
    for chosen in (labels < 5, labels < 5, labels >= 5):
        heads(embeddings[chosen], labels[chosen]).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.allclose(list(heads)[1].bias.abs(), torch.full((3,), 0.1), rtol=1e-3)


def test_state_goes_round() -> None:
    heads, again = make(), make()
    optimizers = [made.make_optimizer(0.1) for made in (heads, again)]
    embeddings, labels = batch()
    for _ in range(2):
        heads(embeddings, labels).backward()
        optimizers[0].step()
        optimizers[0].zero_grad()
    again.load_state_dict(heads.state_dict())
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    for made, optimizer in zip((heads, again), optimizers, strict=True):
        made(embeddings, labels).backward()
        optimizer.step()
    for mine, theirs in zip(heads.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_labels_that_no_head_has_are_refused() -> None:
    heads = Heads([PartialFC(6, count, CosFace()) for count in CLASSES])
    for label in (-1, 12):
        with pytest.raises(UserError, match="labels lie in"):
            heads(torch.randn(1, 6), torch.tensor([label]))


def run(rank: int, folder: str) -> None:
    """The second process has no sample of the first head."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/s", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    heads = make(0.5)
    embeddings, labels = batch()
    order = labels.argsort()
    mine = order[:5] if rank == 0 else order[5:]
    x = embeddings[mine].requires_grad_()
    loss = heads(x, labels[mine])
    loss.backward()
    torch.save((loss.detach(), x.grad), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_give_the_loss_of_one(tmp_path: Path) -> None:
    spawn(run, (str(tmp_path),), 2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    heads = make(0.5)
    embeddings, labels = batch()
    order = labels.argsort()
    x = embeddings[order].requires_grad_()
    loss = heads(x, labels[order])
    loss.backward()
    for part in parts:
        assert torch.allclose(part[0], loss.detach())
    # Twice: DistributedDataParallel halves them again.
    assert torch.allclose(torch.cat([part[1] for part in parts]) / 2, x.grad, atol=1e-6)  # pyright: ignore
