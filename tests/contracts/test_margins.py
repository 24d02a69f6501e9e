"""What every row of the table of margins keeps: it learns, its state is saved, and its options can be scheduled."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from faceprint.margins import MARGINS, Margin
from faceprint.training.losses import build_margin

CLASSES, DIM, BATCH = 7, 5, 16
OPTIONS: dict[str, dict[str, Any]] = {"softmax": {"incay": 0.01}, "magface": {"l_a": 0.5, "u_a": 5.0}}
each = pytest.mark.parametrize("name", MARGINS)


def made(name: str) -> Any:
    return build_margin(name, OPTIONS.get(name, {}), CLASSES)


def plain_loss(margin: Margin, embeddings: Tensor, centres: Tensor, labels: Tensor) -> Tensor:
    """The loss over all classes at once, as the seam has it."""
    norms = embeddings.norm(dim=1)
    if margin.normalized:
        embeddings, centres = functional.normalize(embeddings), functional.normalize(centres)
    cosine = embeddings @ centres.T
    target = cosine.gather(1, labels[:, None])[:, 0]
    with torch.no_grad():
        margin.begin(target, norms)
    logits = margin(cosine, target, labels, norms)
    with torch.no_grad():
        margin.end(logits.logsumexp(1), logits.gather(1, labels[:, None])[:, 0])
    signs = 1.0 - 2.0 * functional.one_hot(labels, len(centres))
    losses = (
        functional.cross_entropy(logits, labels)
        if margin.loss == "softmax"
        else functional.softplus(signs * logits).sum(1).mean()
    )
    return losses + margin.penalty(norms)


def problem() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    labels = torch.arange(BATCH) % CLASSES
    embeddings = torch.randn(CLASSES, DIM)[labels] + 0.3 * torch.randn(BATCH, DIM)
    return embeddings.requires_grad_(), torch.randn(CLASSES, DIM).requires_grad_(), labels


def test_there_are_thirteen() -> None:
    assert len(MARGINS) == 13


@each
def test_it_learns(name: str) -> None:
    margin, (embeddings, centres, labels) = made(name), problem()
    optimizer = torch.optim.Adam([embeddings, centres, *margin.parameters()], lr=0.05)
    losses: list[float] = []
    for _ in range(60):
        loss = plain_loss(margin, embeddings, centres, labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(tensor.grad is not None for tensor in margin.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    scores = embeddings @ centres.T if not margin.normalized else embeddings @ functional.normalize(centres).T
    assert (scores.argmax(1) == labels).float().mean() > 0.9


@each
def test_a_resumed_margin_goes_on_the_same(name: str) -> None:
    embeddings, centres, labels = problem()
    margin, resumed = made(name), made(name)
    for _ in range(3):
        plain_loss(margin, embeddings, centres, labels)
    resumed.load_state_dict(margin.state_dict())
    expected = plain_loss(margin, embeddings, centres, labels)
    assert torch.equal(plain_loss(resumed, embeddings, centres, labels), expected)


@each
def test_repeating_the_call_before_the_next_begin_repeats_the_logits(name: str) -> None:
    embeddings, centres, labels = problem()
    margin = made(name)
    cosine = functional.normalize(embeddings) @ functional.normalize(centres).T
    target, norms = cosine.gather(1, labels[:, None])[:, 0], embeddings.norm(dim=1)
    with torch.no_grad():
        margin.begin(target, norms)
        first = margin(cosine, target, labels, norms)
        margin.end(first.logsumexp(1), first.gather(1, labels[:, None])[:, 0])
        assert torch.equal(margin(cosine, target, labels, norms), first)


@each
def test_it_compiles_in_one_piece(name: str) -> None:
    embeddings, centres, labels = problem()
    margin = made(name)
    cosine = functional.normalize(embeddings) @ functional.normalize(centres).T
    target, norms = cosine.gather(1, labels[:, None])[:, 0], embeddings.norm(dim=1)
    compiled = torch.compile(margin, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(cosine, target, labels, norms), margin(cosine, target, labels, norms))


@each
def test_every_option_has_a_type_that_configuration_knows_and_numbers_can_change(name: str) -> None:
    margin = made(name)
    kinds = get_type_hints(MARGINS[name].__init__)
    for option, parameter in inspect.signature(MARGINS[name]).parameters.items():
        if option == "num_classes":
            continue
        build_margin(name, {option: parameter.default}, CLASSES)
        if kinds[option] is float:
            assert isinstance(getattr(margin, option), float), option


@each
def test_it_documents_its_source(name: str) -> None:
    module = inspect.getmodule(MARGINS[name])
    assert module is not None
    text = f"{module.__doc__}{MARGINS[name].__doc__}"
    assert "arXiv" in text or "ICCV" in text or name == "softmax"
    assert "UserError" in text
