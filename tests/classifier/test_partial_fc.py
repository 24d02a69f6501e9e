from __future__ import annotations

import math

import pytest
import torch

from faceprint.classifier import PartialFC
from faceprint.errors import UserError
from faceprint.margins import ArcFace, CosFace, Softmax


def test_loss_and_statistics_by_loops() -> None:
    torch.manual_seed(0)
    classifier = PartialFC(4, 5, CosFace(10.0, 0.2))
    torch.nn.init.normal_(classifier.centres)
    embeddings, labels = torch.randn(3, 4), torch.tensor([4, 0, 2])
    loss, statistics = classifier.measure(embeddings, labels)

    def cosine(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    losses, targets, right, lengths = [], [], 0, []
    for embedding, label in zip(embeddings.tolist(), labels.tolist(), strict=True):
        values = [cosine(embedding, centre) for centre in classifier.centres.tolist()]
        logits = [10.0 * (value - 0.2 * (j == label)) for j, value in enumerate(values)]
        losses.append(math.log(sum(math.exp(logit) for logit in logits)) - logits[label])
        targets.append(values[label])
        right += max(range(5), key=lambda j: values[j]) == label
        lengths.append(math.hypot(*embedding))
    assert loss.item() == pytest.approx(sum(losses) / 3, rel=1e-5)
    assert statistics.target_cosine.item() == pytest.approx(sum(targets) / 3, rel=1e-5)
    assert statistics.lowest_cosine.item() == pytest.approx(min(targets), rel=1e-5)
    assert statistics.accuracy.item() == pytest.approx(right / 3)
    assert statistics.embedding_norm.item() == pytest.approx(sum(lengths) / 3, rel=1e-5)


def test_plain_softmax_has_a_bias_and_no_normalisation() -> None:
    torch.manual_seed(0)
    classifier = PartialFC(4, 5, Softmax())
    assert classifier.bias is not None
    torch.nn.init.normal_(classifier.bias)
    embeddings, labels = torch.randn(6, 4), torch.randint(5, (6,))
    logits = embeddings @ classifier.centres.T + classifier.bias
    expected = -torch.log_softmax(logits, 1)[torch.arange(6), labels].mean()
    assert classifier(embeddings, labels).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_cosine_classifier_ignores_the_length_of_embeddings() -> None:
    torch.manual_seed(0)
    classifier = PartialFC(8, 5, ArcFace(16.0, 0.3))
    embeddings, labels = torch.randn(6, 8), torch.randint(5, (6,))
    assert classifier(embeddings, labels).item() == pytest.approx(classifier(7 * embeddings, labels).item(), rel=1e-5)
    assert classifier.bias is None


def test_float32_whatever_the_network_runs_in() -> None:
    torch.manual_seed(0)
    classifier = PartialFC(8, 5, CosFace())
    embeddings, labels = torch.randn(6, 8).bfloat16(), torch.randint(5, (6,))
    with torch.autocast("cpu", torch.bfloat16):
        loss = classifier(embeddings, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(classifier(embeddings.float(), labels).item(), rel=1e-6)


def test_labels_outside_the_range_are_an_error() -> None:
    classifier = PartialFC(8, 5, CosFace())
    with pytest.raises(UserError, match=r"label 5 of sample 1 in the batch: labels lie in 0 \.\. 4"):
        classifier(torch.randn(2, 8), torch.tensor([0, 5]))


def test_one_identity_is_an_error() -> None:
    with pytest.raises(UserError, match="at least 2 identities, got 1"):
        PartialFC(8, 1, CosFace())
