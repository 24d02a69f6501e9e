from __future__ import annotations

import statistics
import time

import pytest
import torch

from faceprint.classifier import PartialFC
from faceprint.classifier.estimate import GIB, HeadPlan
from faceprint.errors import UserError
from faceprint.margins import AdaFace, CosFace


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_estimate_is_what_is_held(kind: str, name: str) -> None:
    classifier = PartialFC(16, 100, CosFace(), 0.25, sub_centers=2, centres=kind)  # pyright: ignore
    optimizer = classifier.make_optimizer(0.1, name=name, state=kind)
    classifier(torch.randn(4, 16, requires_grad=True), torch.arange(4)).backward()
    plan = HeadPlan(
        num_classes=100,
        embedding_dim=16,
        sample_rate=0.25,
        sub_centers=2,
        centres=kind,  # pyright: ignore
        state=kind,  # pyright: ignore
        optimizer=name,  # pyright: ignore
    )
    moments = [value for key, value in optimizer.state[classifier.centres].items() if key != "row_steps"]
    held = [classifier.centres, *moments]
    assert plan.lasting_bytes == sum(value.numel() * value.element_size() for value in held)
    assert plan.step_bytes == sum(grad.numel() * grad.element_size() for _, grad in classifier.gradients)


@pytest.mark.parametrize("rate", [0.2, 1.0])
def test_the_estimate_counts_every_pass_of_a_step(rate: float) -> None:
    """Held after three passes: the sum; while the third was added, the sum before it and the pass's own too."""
    classifier = PartialFC(8, 2000, CosFace(), rate)
    held: list[int] = []
    for _ in range(3):
        classifier(torch.randn(4, 8, requires_grad=True), torch.randint(2000, (4,))).backward()
        grad = classifier.centres.grad
        held.append(sum(sums.numel() for _, sums in classifier.gradients) if grad is None else grad.numel())
    plan = HeadPlan(num_classes=2000, embedding_dim=8, sample_rate=rate, passes=3)
    before = held[1] if rate < 1 else 0
    assert plan.step_bytes == pytest.approx(4 * (before + held[0] + held[2]), rel=0.05)


def test_the_largest_published_run() -> None:
    """29 million identities, 512 dimensions, 64 processes: 4 bytes each for centre and momentum."""
    plan = HeadPlan(num_classes=29_000_000, embedding_dim=512, sample_rate=0.1, processes=64)
    assert plan.lasting_bytes == 453_125 * 512 * 8
    assert plan.total_bytes == pytest.approx(plan.lasting_bytes * 1.05)


@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_the_time_of_a_step_is_near_what_it_takes(rate: float) -> None:
    """A small head scaled up against the whole one, within a factor of three: other programs run here too."""
    plan = HeadPlan(num_classes=30_000, embedding_dim=128, sample_rate=rate, batch_size=64, passes=2)
    estimated = plan.seconds(CosFace(), torch.device("cpu"))
    classifier = PartialFC(128, 30_000, CosFace(), rate)
    optimizer = classifier.make_optimizer(0.1)
    times: list[float] = []
    for _ in range(4):
        since = time.perf_counter()
        for _ in range(2):
            classifier(torch.randn(64, 128, requires_grad=True), torch.randint(30_000, (64,))).backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - since)
    assert 1 / 3 < estimated / statistics.median(times) < 3


def test_what_is_timed_changes_nothing() -> None:
    torch.manual_seed(3)
    margin = AdaFace()
    before = {name: value.clone() for name, value in margin.state_dict().items()}
    HeadPlan(num_classes=50, embedding_dim=8, batch_size=4).seconds(margin, torch.device("cpu"))
    after = torch.rand(3)
    assert torch.equal(after, torch.rand(3, generator=torch.Generator().manual_seed(3)))
    assert all(torch.equal(margin.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("processes", [1, 8])
def test_advice_on_the_sample_rate(processes: int) -> None:
    few = HeadPlan(num_classes=1_000, embedding_dim=512, sample_rate=0.1, processes=processes)
    assert "classifier.sample_rate=0.1 of 1,000 identities is no more than a batch" in str(few.advice(0.001))
    some = HeadPlan(num_classes=20_000, embedding_dim=512, sample_rate=0.5, processes=processes)
    assert some.advice(0.005) == "sampling saves about 5 ms a step: classifier.sample_rate=1 compares with everybody"
    assert some.advice(0.05) is None
    many = HeadPlan(num_classes=1_000_000, embedding_dim=512, processes=processes)
    assert many.advice(3.0) == "classifier.sample_rate=0.1 would take about 300 ms a step"
    assert many.advice(0.05) is None


def test_advice_is_what_would_fit() -> None:
    plan = HeadPlan(num_classes=1_000_000, embedding_dim=512)
    plan.check(None)
    plan.check(6 * GIB)
    with pytest.raises(UserError, match=r"need 5\.7 GiB .*; 5\.0 GiB are free\. Try classifier\.sample_rate=0\.1, or"):
        plan.check(5 * GIB)
    with pytest.raises(UserError, match=r"Try classifier\.centres=bf16 .* 2 processes.*Sampling alone cannot help"):
        plan.check(3 * GIB)
    with pytest.raises(UserError, match=r"Try 6 processes"):
        plan.check(1 * GIB)
