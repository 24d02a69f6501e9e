from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from faceprint.errors import UserError
from faceprint.margins import MARGINS, ArcFace, CosFace, Margin, Softmax

MADE: dict[str, Margin] = {"softmax": Softmax(), "cosface": CosFace(30.0, 0.35), "arcface": ArcFace(30.0, 0.5)}


def test_every_margin_is_covered_here() -> None:
    assert set(MADE) == set(MARGINS)


def cosines(seed: int = 0, rows: int = 5, columns: int = 7) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    labels = torch.randint(columns, (rows,))
    return torch.rand(rows, columns, dtype=torch.float64) * 1.96 - 0.98, labels


def apply(margin: Margin, cosine: Tensor, labels: Tensor) -> Tensor:
    target = cosine.gather(1, labels.clamp_min(0)[:, None])[:, 0]
    return margin(cosine, target, labels, torch.ones(len(cosine), dtype=cosine.dtype))


def formula(name: str, cosine: float, is_target: bool) -> float:
    if name == "softmax":
        return cosine
    if not is_target:
        return 30.0 * cosine
    return 30.0 * (cosine - 0.35) if name == "cosface" else 30.0 * math.cos(math.acos(cosine) + 0.5)


@pytest.mark.parametrize("name", MADE)
def test_values_are_the_formula_entry_by_entry(name: str) -> None:
    cosine, labels = cosines()
    logits = apply(MADE[name], cosine, labels)
    for i in range(5):
        for j in range(7):
            assert logits[i, j].item() == pytest.approx(formula(name, cosine[i, j].item(), j == labels[i]), abs=1e-9)


@pytest.mark.parametrize("name", MADE)
def test_gradients(name: str) -> None:
    cosine, labels = cosines(1)
    cosine.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: apply(MADE[name], x, labels), (cosine,))


@pytest.mark.parametrize("name", MADE)
def test_rows_whose_class_is_elsewhere_get_no_margin(name: str) -> None:
    cosine, labels = cosines(2)
    elsewhere = labels.clone()
    elsewhere[[0, 3]] = -1
    logits = apply(MADE[name], cosine, elsewhere)
    scale = 1.0 if name == "softmax" else 30.0
    assert torch.allclose(logits[[0, 3]], scale * cosine[[0, 3]])
    assert torch.equal(logits[[1, 2, 4]], apply(MADE[name], cosine, labels)[[1, 2, 4]])


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("value", [1.0, -1.0, 1.0 + 2e-7, -1.0 - 2e-7, 1.0 - 6e-8, 0.0])
def test_finite_at_the_ends_in_float32(name: str, value: float) -> None:
    cosine = torch.full((2, 3), value, dtype=torch.float32, requires_grad=True)
    logits = apply(MADE[name], cosine, torch.tensor([0, 2]))
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
    assert torch.isfinite(logits).all()
    assert cosine.grad is not None
    assert torch.isfinite(cosine.grad).all()


def test_the_gradient_of_arcface_is_the_true_one() -> None:
    theta = torch.linspace(0.3, 2.5, 9, dtype=torch.float64)
    cosine = theta.cos().unsqueeze(1).requires_grad_()
    apply(ArcFace(1.0, 0.5), cosine, torch.zeros(9, dtype=torch.int64)).sum().backward()
    assert cosine.grad is not None
    assert torch.allclose(cosine.grad[:, 0], (theta + 0.5).sin() / theta.sin())


def test_a_margin_makes_the_right_class_harder() -> None:
    cosine, labels = cosines(3)
    cosine = cosine.clamp(-0.5, 0.9)
    for name in ("cosface", "arcface"):
        logits = apply(MADE[name], cosine, labels)
        assert (logits.gather(1, labels[:, None]) < 30.0 * cosine.gather(1, labels[:, None])).all()


@pytest.mark.parametrize("arguments", [(0.0, 0.3), (-1.0, 0.3), (30.0, -0.1), (float("nan"), 0.3)])
def test_impossible_options_are_refused(arguments: tuple[float, float]) -> None:
    for factory in (CosFace, ArcFace):
        with pytest.raises(UserError, match="scale > 0"):
            factory(*arguments)
    with pytest.raises(UserError, match="margin < π"):
        ArcFace(30.0, 3.2)
