from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from faceprint.classifier import PartialFC
from faceprint.margins import CosFace
from faceprint.training.cosines import BINS, CosineCounts, count


def test_counts_are_those_of_numpy() -> None:
    cosines = torch.empty(5000).uniform_(-1, 1, generator=torch.Generator().manual_seed(1)).double()
    expected, _ = np.histogram(cosines.numpy(), BINS, (-1, 1))
    assert np.abs(count(cosines).numpy() - expected).sum() <= 2  # rounding at an edge
    edges = count(torch.tensor([-1.0, 1.0, 1.0000001, -1.01, 0.0]))
    assert (edges[0], edges[-1], edges[BINS // 2], edges.sum()) == (2, 2, 1, 5)


def test_what_is_counted_is_the_cosine_with_the_own_and_the_most_similar_other_class() -> None:
    torch.manual_seed(0)
    classifier = PartialFC(8, 5, CosFace(scale=16.0, margin=0.2))
    embeddings, labels = torch.randn(12, 8), torch.arange(12) % 5
    _, statistics = classifier.measure(embeddings, labels)
    cosine = functional.normalize(embeddings) @ functional.normalize(classifier.centres.detach()).T
    rows = torch.arange(12)
    own = cosine[rows, labels].clone()
    cosine[rows, labels] = -2
    assert statistics.cosines is not None
    assert statistics.cosines[0].numpy() == pytest.approx(own.numpy(), abs=1e-5)
    assert statistics.cosines[1].numpy() == pytest.approx(cosine.amax(1).numpy(), abs=1e-5)


def test_counts_go_on_after_a_checkpoint() -> None:
    counts, again = (CosineCounts(torch.device("cpu")) for _ in range(2))
    counts.add((torch.tensor([0.51, 0.52]), torch.tensor([-0.5, 0.0])))
    again.load_state_dict(counts.state_dict())
    again.add((torch.tensor([0.53, 0.9]), torch.tensor([-0.5, 0.0])))
    taken = again.take()
    assert taken["target_cosine_counts"][30] == 3
    assert sum(taken["other_cosine_counts"]) == 4
    assert again.take() == {}
