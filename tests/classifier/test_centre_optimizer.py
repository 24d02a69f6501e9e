"""The optimiser of sampled rows against torch's own over all rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from faceprint.classifier import CentreOptimizer, PartialFC
from faceprint.classifier.optim import store
from faceprint.errors import UserError
from faceprint.margins import CosFace, Softmax

C, D, B = 40, 6, 5


def make(rate: float, **options: Any) -> tuple[PartialFC, CentreOptimizer]:
    torch.manual_seed(0)
    classifier = PartialFC(D, C, CosFace(8.0, 0.1), rate)
    torch.nn.init.normal_(classifier.centres)
    return classifier, classifier.make_optimizer(0.1, 0.9, 5e-2, **options)


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(B, D, generator=generator, requires_grad=True), torch.randint(C, (B,), generator=generator)


def rate_of(step: int) -> float:
    return 0.2 * (1 + step % 7) / (1 + step // 50)


def test_lazy_updates_are_dense_sgd_over_200_steps_of_a_changing_rate() -> None:
    classifier, ours = make(0.2, update="dense")
    dense = torch.nn.Parameter(classifier.centres.detach().clone())
    plain = torch.optim.SGD([dense], lr=0.1, momentum=0.9, weight_decay=5e-2)
    for step in range(200):
        classifier(*batch(step)).backward()
        ((rows, grad),) = classifier.gradients
        assert torch.allclose(classifier.centres[rows], dense[rows], rtol=1e-4, atol=1e-5)
        dense.grad = torch.zeros_like(dense).index_copy_(0, rows, grad)
        for optimizer in (ours, plain):
            optimizer.param_groups[0]["lr"] = rate_of(step)
            optimizer.step()
            optimizer.zero_grad()
    ours.flush()
    assert torch.allclose(classifier.centres, dense, rtol=1e-4, atol=1e-5)
    momentum = plain.state[dense]["momentum_buffer"]
    assert torch.allclose(ours.state[classifier.centres]["momentum"], momentum, rtol=1e-4, atol=1e-5)


def test_lazy_updates_are_made_where_the_centres_are() -> None:
    """Which rows are behind is known in CPU memory, the centres are elsewhere: here on the meta device."""
    optimizer = PartialFC(D, C, CosFace(8.0, 0.1), 0.2).to("meta").make_optimizer(0.1, update="dense")
    assert optimizer.lag is not None
    optimizer.lag.step(torch.tensor([1, 3]), optimizer.param_groups[0])
    optimizer.flush()


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_all_rows_sampled_is_torchs_own_optimiser(name: str) -> None:
    classifier, ours = make(1.0, name=name)
    dense = torch.nn.Parameter(classifier.centres.detach().clone())
    plain: torch.optim.Optimizer = (
        torch.optim.SGD([dense], lr=0.1, momentum=0.9, weight_decay=5e-2)
        if name == "sgd"
        else torch.optim.AdamW([dense], lr=0.1, betas=(0.9, 0.999), weight_decay=5e-2)
    )
    for step in range(10):
        classifier(*batch(step)).backward()
        assert classifier.centres.grad is not None
        dense.grad = classifier.centres.grad.clone()
        for optimizer in (ours, plain):
            optimizer.param_groups[0]["lr"] = 0.01 * rate_of(step)
            optimizer.step()
            optimizer.zero_grad()
    assert torch.allclose(classifier.centres, dense, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_rows_that_were_not_sampled_are_not_touched(name: str) -> None:
    classifier, optimizer = make(0.2, name=name)
    for step in range(3):
        before = classifier.centres.detach().clone()
        moments = {key: value.clone() for key, value in optimizer.state[classifier.centres].items()}
        classifier(*batch(step)).backward()
        left = torch.ones(C, dtype=torch.bool)
        left[classifier.gradients[0][0]] = False
        optimizer.step()
        optimizer.zero_grad()
        assert 0 < left.sum() < C
        assert torch.equal(classifier.centres[left], before[left])
        assert not torch.isclose(classifier.centres[~left], before[~left]).all(1).any()
        for key, value in moments.items():
            assert torch.equal(optimizer.state[classifier.centres][key][left], value[left])


def test_accumulated_passes_add_up() -> None:
    classifier, optimizer = make(0.3)
    before = classifier.centres.detach().clone()
    total = torch.zeros(C, D)
    sampled: set[int] = set()
    twin, _ = make(0.3)
    for step in range(3):
        (twin(*batch(step)) / 3).backward()
        rows, grad = twin.gradients.pop()
        total.index_add_(0, rows, grad)
        sampled |= set(rows.tolist())
        (classifier(*batch(step)) / 3).backward()
    ((touched, sums),) = classifier.gradients
    assert touched.tolist() == sorted(sampled)  # rows of several passes are there once: the length is that of the sum
    assert torch.allclose(sums, total[touched], atol=1e-7)
    optimizer.step()
    expected = before.clone()
    expected[touched] -= 0.1 * (total + 5e-2 * before)[touched]
    assert torch.allclose(classifier.centres, expected, atol=1e-6)
    optimizer.zero_grad()
    assert classifier.gradients == []


def test_stochastic_rounding_keeps_the_mean_of_small_updates() -> None:
    torch.manual_seed(0)
    target = torch.ones(4000, 1, dtype=torch.bfloat16)
    value = 1 + 2**-10  # an eighth of bfloat16's step above 1
    store(target, slice(0, 4000), torch.full((4000, 1), value))
    assert set(target.flatten().tolist()) == {1.0, 1 + 2**-7}
    assert target.double().mean().item() == pytest.approx(value, abs=5 * 2**-7 * (0.125 * 0.875 / 4000) ** 0.5)
    exact = torch.tensor([[1.5], [-2.0], [0.0]])
    store(target, torch.tensor([0, 1, 2]), exact)
    assert target[:3].tolist() == exact.tolist()


def test_half_the_memory_learns_about_the_same() -> None:
    losses: list[float] = []
    for kind in ("fp32", "bf16"):
        torch.manual_seed(0)
        classifier = PartialFC(D, C, CosFace(8.0, 0.1), 0.5, centres=kind)
        optimizer = classifier.make_optimizer(0.2, state=kind)
        embeddings, labels = batch(0)
        for _ in range(60):
            loss = classifier(embeddings.detach(), labels)
            loss.backward() if loss.requires_grad else None
            optimizer.step()
            optimizer.zero_grad()
        assert classifier.centres.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[kind]
        losses.append(classifier.eval()(embeddings, labels).item())
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_state_goes_round() -> None:
    for options in ({"name": "adamw"}, {"update": "dense"}, {"state": "bf16"}):
        one, other = make(0.3, **options), make(0.3, **options)
        for step in range(4):
            if step == 2:
                other[1].load_state_dict(one[1].state_dict())
                other[0].load_state_dict(one[0].state_dict())
            for classifier, optimizer in (one, other)[: 1 if step < 2 else 2]:
                torch.manual_seed(step)
                classifier(*batch(step)).backward()
                optimizer.step()
                optimizer.zero_grad()
        assert torch.equal(one[0].centres, other[0].centres)


def test_a_bias_is_trained_too() -> None:
    classifier = PartialFC(D, C, Softmax())
    optimizer = classifier.make_optimizer(0.1)
    classifier(*batch(0)).backward()
    optimizer.step()
    assert classifier.bias is not None
    assert classifier.bias.abs().sum() > 0


def test_adamw_has_no_closed_form() -> None:
    with pytest.raises(UserError, match="update=dense is for SGD only"):
        make(0.5, name="adamw", update="dense")
