from __future__ import annotations

import pytest
import torch

from faceprint.classifier import PartialFC
from faceprint.classifier.estimate import GIB, HeadPlan
from faceprint.errors import UserError
from faceprint.margins import CosFace


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


def test_the_largest_published_run() -> None:
    """29 million identities, 512 dimensions, 64 processes: 4 bytes each for centre and momentum."""
    plan = HeadPlan(num_classes=29_000_000, embedding_dim=512, sample_rate=0.1, processes=64)
    assert plan.lasting_bytes == 453_125 * 512 * 8
    assert plan.total_bytes == pytest.approx(plan.lasting_bytes * 1.05)


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
