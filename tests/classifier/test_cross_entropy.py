"""Blocks, sampling and sub-centres against the plain formula over a full matrix of logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from faceprint.classifier import PartialFC, cross_entropy, optim
from faceprint.errors import UserError
from faceprint.margins import MARGINS, ArcFace, CosFace, Softmax
from faceprint.margins.plain import Plain

C, D, B = 23, 6, 9


def make(margin: Plain, **options: object) -> PartialFC:
    torch.manual_seed(0)
    classifier = PartialFC(D, C, margin, **options)  # pyright: ignore
    torch.nn.init.normal_(classifier.centres)
    if classifier.bias is not None:
        torch.nn.init.normal_(classifier.bias)
    return classifier


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(B, D, generator=generator) * 3, torch.randint(C, (B,), generator=generator)


def plain_loss(classifier: PartialFC, embeddings: Tensor, labels: Tensor, centres: Tensor, rows: Tensor) -> Tensor:
    """The whole matrix of logits at once, of the classes `rows`, differentiated by autograd."""
    margin, subs = classifier.margin, classifier.sub_centers
    norms = embeddings.norm(dim=1)
    weights = centres.view(C, subs, D)[rows]
    if margin.normalized:
        scores = torch.einsum("bd,ckd->bck", F.normalize(embeddings), F.normalize(weights, dim=2))
    else:
        scores = torch.einsum("bd,ckd->bck", embeddings, weights)
        assert classifier.bias is not None
        scores = scores + classifier.bias.view(C, subs)[rows]
    scores = scores.amax(2)
    positives = torch.tensor([rows.tolist().index(label) for label in labels.tolist()])
    target = scores.gather(1, positives[:, None]).squeeze(1)
    logits = margin(scores, target, positives, norms)
    if margin.loss == "binary":
        own = logits.gather(1, positives[:, None]).squeeze(1)
        return (F.softplus(logits).sum(1) - own).mean() + margin.penalty(norms)
    smooth = classifier.label_smoothing
    return F.cross_entropy(logits, positives, label_smoothing=smooth) + margin.penalty(norms)


def margins() -> list[Plain]:
    made: list[Plain] = []
    for factory in MARGINS.values():
        options = {"num_classes": C} if "num_classes" in factory.__init__.__annotations__ else {}
        made.append(factory(**options))  # pyright: ignore
    return made


def test_every_margin_is_seen() -> None:
    assert len(margins()) == 13


@pytest.mark.parametrize("margin", margins(), ids=list(MARGINS))
@pytest.mark.parametrize(("subs", "rate"), [(1, 1.0), (3, 1.0), (1, 0.5)])
def test_blocks_give_the_plain_loss_and_gradients(
    margin: Plain, subs: int, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_entropy, "BLOCK", 4 * subs)
    classifier = make(margin, sub_centers=subs, sample_rate=rate)
    embeddings, labels = batch()
    embeddings.requires_grad_()
    loss = classifier(embeddings, labels)
    state = {name: value.clone() for name, value in margin.state_dict().items()}
    loss.backward()
    if rate == 1:
        rows, grad = torch.arange(C), classifier.centres.grad
    else:
        ((taken, grad),) = classifier.gradients
        rows = taken
        assert set(labels.tolist()) <= set(rows.tolist())
        assert len(rows) == round(rate * C)
    assert embeddings.grad is not None
    assert grad is not None
    ours = [loss.detach(), embeddings.grad, grad]
    centres = classifier.centres.detach().clone().requires_grad_()
    embeddings = embeddings.detach().clone().requires_grad_()
    margin.load_state_dict(state)
    theirs = plain_loss(classifier, embeddings, labels, centres, rows)
    by_embeddings, by_centres = torch.autograd.grad(theirs, [embeddings, centres])
    by_centres = by_centres.view(C, subs, D)[rows].reshape(-1, D)
    for one, other in zip(ours, [theirs.detach(), by_embeddings, by_centres], strict=True):
        scale = max(1.0, float(other.abs().max()))
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("margin", [CosFace(32.0), ArcFace(32.0)], ids=["cosface", "arcface"])
def test_it_is_the_plain_formula_in_double_precision(margin: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    """What float32 loses is its rounding, and no more."""
    monkeypatch.setattr(cross_entropy, "BLOCK", 4)
    classifier = make(margin, label_smoothing=0.1)
    embeddings, labels = batch()
    embeddings.requires_grad_()
    loss = classifier(embeddings, labels)
    loss.backward()
    x, w = (tensor.detach().double().requires_grad_() for tensor in (embeddings, classifier.centres))
    exact = plain_loss(classifier, x, labels, w, torch.arange(C))
    assert exact.dtype == torch.float64
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)
    for ours, theirs in zip(
        (embeddings.grad, classifier.centres.grad), torch.autograd.grad(exact, [x, w]), strict=True
    ):
        assert ours is not None
        assert float((ours - theirs).abs().max()) < 1e-5 * float(theirs.abs().max())


def test_label_smoothing_and_bias_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "BLOCK", 5)
    classifier = make(Softmax(), label_smoothing=0.2)
    embeddings, labels = batch()
    loss = classifier(embeddings, labels)
    loss.backward()
    assert classifier.bias is not None
    got = [classifier.bias.grad, classifier.centres.grad]
    centres, bias = (weight.detach().clone().requires_grad_() for weight in (classifier.centres, classifier.bias))
    plain = F.cross_entropy(embeddings @ centres.T + bias, labels, label_smoothing=0.2)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    for one, other in zip(got, torch.autograd.grad(plain, [bias, centres]), strict=True):
        assert one is not None
        assert torch.allclose(one, other, atol=1e-5)


def test_huge_logits_stay_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "BLOCK", 4)
    classifier = make(Softmax())
    embeddings, labels = batch()
    loss = classifier(embeddings * 1e4, labels)
    loss.backward()
    plain = F.cross_entropy(embeddings.double() * 1e4 @ classifier.centres.double().T + classifier.bias, labels)  # pyright: ignore
    assert loss.item() == pytest.approx(plain.item(), rel=1e-4)
    assert classifier.centres.grad is not None
    assert classifier.centres.grad.isfinite().all()


def test_nothing_of_the_size_of_all_logits_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "BLOCK", 4)
    classifier = make(CosFace(), sample_rate=0.5)
    embeddings, labels = batch()
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (saved.append(t.numel()), t)[1], lambda t: t):
        classifier(embeddings.requires_grad_(), labels)
    assert max(saved) <= max(B * D, C * D)
    assert B * C not in saved


class Largest(TorchDispatchMode):
    """Keeps the size of the largest tensor that any operation made, in numbers; views make none."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in given:
                self.numbers = max(self.numbers, leaf.numel())
        return result


CLASSES, DIM, BATCH = 4000, 16, 200


def largest_in_steps(rate: float, options: dict[str, Any], of_optimizer: dict[str, Any]) -> int:
    """Forward, backward and update, three times."""
    classifier = PartialFC(DIM, CLASSES, CosFace(8.0), rate, **options)
    optimizer = classifier.make_optimizer(0.1, **of_optimizer)
    embeddings, labels = torch.randn(BATCH, DIM, requires_grad=True), torch.arange(BATCH) % 100
    with Largest() as largest:
        for _ in range(3):
            classifier(embeddings, labels).backward()
            optimizer.step()
            optimizer.zero_grad()
    return largest.numbers


@pytest.mark.parametrize(
    ("options", "of_optimizer"),
    [
        ({}, {}),
        ({}, {"update": "dense"}),
        ({}, {"name": "adamw", "state": "bf16"}),
        ({"centres": "bf16", "product": "bf16"}, {"state": "bf16"}),
        ({"sub_centers": 2}, {}),
    ],
)
def test_no_step_makes_anything_as_large_as_all_centres_or_all_logits(
    options: dict[str, Any], of_optimizer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenth of the classes is sampled, in blocks of 64: the largest is their gradient, or the logits of a block."""
    monkeypatch.setattr(cross_entropy, "BLOCK", 64)
    monkeypatch.setattr(optim, "ROWS", 64)
    sampled = CLASSES // 10 * options.get("sub_centers", 1)
    numbers = largest_in_steps(0.1, options, of_optimizer)
    assert max(sampled * DIM, BATCH * 64) <= numbers <= max(2 * sampled * DIM, BATCH * 64)
    assert numbers < min(CLASSES * DIM, BATCH * sampled) / 2
    assert largest_in_steps(1.0, {}, {}) == CLASSES * DIM  # all classes: their gradient


def test_bfloat16_products_are_near() -> None:
    exact, rough = make(ArcFace(8.0)), make(ArcFace(8.0), product="bf16")
    embeddings, labels = batch()
    assert rough(embeddings, labels).item() == pytest.approx(exact(embeddings, labels).item(), rel=0.02)


def test_it_stays_out_of_a_compiled_program() -> None:
    classifier = make(CosFace(8.0))
    embeddings, labels = batch()
    compiled = torch.compile(lambda e, y: classifier(2 * e, y), backend="eager")
    assert compiled(embeddings, labels).item() == pytest.approx(classifier(embeddings, labels).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sample_rate": 0.0}, r"in \(0, 1\]"),
        ({"sub_centers": 0}, "at least 1"),
        ({"label_smoothing": 1.0}, r"lies in \[0, 1\)"),
    ],
)
def test_mistakes(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make(CosFace(), **options)
