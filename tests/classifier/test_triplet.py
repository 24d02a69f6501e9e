from __future__ import annotations

import pytest
import torch
from torch import Tensor

from faceprint.classifier import TripletLoss
from faceprint.errors import UserError


def batch(seed: int = 0, identities: int = 4, images: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    labels = torch.arange(identities).repeat_interleave(images)[torch.randperm(identities * images)]
    return torch.randn(len(labels), 5, dtype=torch.float64), labels


def distances(embeddings: Tensor) -> list[list[float]]:
    unit = [[x / sum(y * y for y in row) ** 0.5 for x in row] for row in embeddings.tolist()]
    return [[sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) for b in unit] for a in unit]


def batch_hard_by_loops(d: list[list[float]], labels: list[int], margin: float) -> float:
    losses: list[float] = []
    for a, row in enumerate(d):
        positives = [row[p] for p in range(len(row)) if p != a and labels[p] == labels[a]]
        negatives = [row[n] for n in range(len(row)) if labels[n] != labels[a]]
        if positives and negatives:
            losses.append(max(0.0, max(positives) - min(negatives) + margin))
    return sum(losses) / len(losses)


def semi_hard_by_loops(d: list[list[float]], labels: list[int], margin: float) -> float:
    losses: list[float] = []
    for a, row in enumerate(d):
        negatives = [row[n] for n in range(len(row)) if labels[n] != labels[a]]
        for p in range(len(row)):
            if p != a and labels[p] == labels[a] and negatives:
                farther = [distance for distance in negatives if distance > row[p]]
                losses.append(max(0.0, row[p] - min(farther, default=max(negatives)) + margin))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("margin", [0.2, 1.0])
@pytest.mark.parametrize(("mining", "loops"), [("batch_hard", batch_hard_by_loops), ("semi_hard", semi_hard_by_loops)])
def test_losses_by_loops(mining: str, loops: object, margin: float) -> None:
    for seed in range(8):
        embeddings, labels = batch(seed)
        labels[0] = 99  # alone: no anchor
        expected = loops(distances(embeddings), labels.tolist(), margin)  # pyright: ignore
        loss = TripletLoss(margin, mining)(embeddings, labels)  # pyright: ignore
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_statistics_by_loops() -> None:
    embeddings, labels = batch(3)
    _, statistics = TripletLoss().measure(embeddings, labels)
    d, known = distances(embeddings), labels.tolist()
    pairs = [(a, b) for a in range(12) for b in range(12) if a != b]
    own = [1 - d[a][b] / 2 for a, b in pairs if known[a] == known[b]]
    nearest = [min((other for other in range(12) if other != a), key=lambda other: d[a][other]) for a in range(12)]
    assert statistics.target_cosine.item() == pytest.approx(sum(own) / len(own), rel=1e-5)
    assert statistics.lowest_cosine.item() == pytest.approx(min(own), abs=1e-5)
    assert statistics.accuracy.item() == pytest.approx(sum(known[a] == known[nearest[a]] for a in range(12)) / 12)
    assert statistics.embedding_norm.item() == pytest.approx(embeddings.norm(dim=1).mean().item(), rel=1e-5)


@pytest.mark.parametrize("mining", ["batch_hard", "semi_hard"])
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 1, 1]])
def test_finite_where_there_is_no_triplet_or_all_embeddings_are_one(mining: str, labels: list[int]) -> None:
    embeddings = torch.ones(4, 3, requires_grad=True)
    loss = TripletLoss(0.2, mining)(embeddings, torch.tensor(labels))  # pyright: ignore
    loss.backward()
    assert loss.item() == pytest.approx(0.2 if labels == [0, 0, 1, 1] else 0.0)
    assert embeddings.grad is not None
    assert torch.isfinite(embeddings.grad).all()


@pytest.mark.parametrize("mining", ["batch_hard", "semi_hard"])
def test_it_pulls_identities_apart(mining: str) -> None:
    embeddings, labels = batch(1)
    embeddings = embeddings.float().requires_grad_()
    triplet = TripletLoss(0.5, mining)  # pyright: ignore
    optimizer = torch.optim.Adam([embeddings], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        triplet(embeddings, labels).backward()
        optimizer.step()
    loss, statistics = triplet.measure(embeddings, labels)
    assert loss.item() < 0.05
    assert statistics.accuracy.item() == 1.0


def test_impossible_options_are_refused() -> None:
    with pytest.raises(UserError, match=r"margin in 0\.\.4, got margin=5"):
        TripletLoss(5)
    with pytest.raises(UserError, match="mining of TripletLoss 'hard'"):
        TripletLoss(0.2, "hard")  # pyright: ignore
