"""Weights of classes with few images: their formulas, and the loss and gradients that come of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from faceprint.classifier import PartialFC, cross_entropy
from faceprint.classifier.weighting import effective_number, inverse_frequency
from faceprint.errors import UserError
from faceprint.margins import CosFace, UniFace

COUNTS = np.array([1, 3, 10, 200])


def over_images(weights: torch.Tensor) -> float:
    """The mean weight of all images."""
    images = np.repeat(np.arange(4), COUNTS)
    return sum(float(weights[label]) for label in images) / len(images)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_inverse_frequency(power: float) -> None:
    weights = inverse_frequency(COUNTS, power)
    assert over_images(weights) == pytest.approx(1)
    for weight, count in zip(weights.tolist(), COUNTS.tolist(), strict=True):
        assert weight / weights[3].item() == pytest.approx((200 / count) ** power, rel=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
def test_the_effective_number_is_a_geometric_sum(beta: float) -> None:
    weights = effective_number(COUNTS, beta)
    assert over_images(weights) == pytest.approx(1)
    numbers = [sum(beta**power for power in range(count)) for count in COUNTS.tolist()]
    for weight, number in zip(weights.tolist(), numbers, strict=True):
        assert weight / weights[0].item() == pytest.approx(numbers[0] / number, rel=1e-5)


@pytest.mark.parametrize("rate", [1.0, 0.5])
@pytest.mark.parametrize("margin", [CosFace(8.0, 0.1), UniFace(11, 8.0, 0.1)])
def test_each_loss_and_its_gradient_are_multiplied(
    rate: float, margin: CosFace | UniFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weighted loss is the weighted mean of the losses of single images, and so are its gradients."""
    monkeypatch.setattr(cross_entropy, "BLOCK", 4)
    weights = torch.linspace(0.2, 3.0, 11)
    embeddings, labels = torch.randn(7, 5), torch.tensor([0, 3, 3, 10, 6, 1, 9])

    def run(class_weights: torch.Tensor | None, chosen: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        torch.manual_seed(0)
        classifier = PartialFC(5, 11, margin, class_weights=class_weights)
        torch.nn.init.normal_(classifier.centres)
        if rate < 1:  # all of them, by the path that samples
            monkeypatch.setattr(classifier, "_draw", lambda positives: torch.arange(11))  # pyright: ignore
            classifier.sample_rate = rate
            classifier.centres.requires_grad_(False)
        x = embeddings[chosen].clone().requires_grad_()
        loss = classifier(x, labels[chosen])
        loss.backward()
        by_centres = classifier.centres.grad if rate == 1 else classifier.gradients[0][1]
        assert x.grad is not None
        assert by_centres is not None
        return loss.detach(), x.grad, by_centres

    whole = run(weights, slice(0, 7))
    single = [run(None, slice(place, place + 1)) for place in range(7)]
    factors = [weights[label] / 7 for label in labels]
    assert torch.allclose(whole[0], sum(f * one[0] for f, one in zip(factors, single, strict=True)), rtol=1e-5)  # pyright: ignore
    assert torch.allclose(whole[1], torch.cat([f * one[1] for f, one in zip(factors, single, strict=True)]), atol=1e-6)
    assert torch.allclose(whole[2], sum(f * one[2] for f, one in zip(factors, single, strict=True)), atol=1e-6)  # pyright: ignore


def test_equal_weights_are_none_at_all() -> None:
    embeddings, labels = torch.randn(4, 5), torch.arange(4)
    losses = []
    for weights in (None, torch.ones(11)):
        torch.manual_seed(0)
        losses.append(PartialFC(5, 11, CosFace(), class_weights=weights)(embeddings, labels))
    assert torch.equal(*losses)


def test_mistakes() -> None:
    with pytest.raises(UserError, match=r"class_weight_power 2: lies in 0 \.\. 1"):
        inverse_frequency(COUNTS, 2)
    with pytest.raises(UserError, match=r"class_weight_beta 1: lies in \[0, 1\)"):
        effective_number(COUNTS, 1)
    with pytest.raises(UserError, match=r"one a class, \(11,\)"):
        PartialFC(5, 11, CosFace(), class_weights=torch.ones(4))
