"""Every margin entry by entry against its formula in plain Python, and what all of them promise of their gradients."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from faceprint.errors import UserError
from faceprint.margins import (
    MARGINS,
    AdaCos,
    AdaFace,
    ArcFace,
    Combined,
    CosFace,
    CurricularFace,
    ElasticFace,
    MagFace,
    MVSoftmax,
    Softmax,
    SphereFace,
    SphereFaceR,
    UniFace,
)
from faceprint.margins.angle import angle, multiply_angle
from faceprint.margins.plain import Plain

ROWS, COLUMNS = 6, 8


@dataclass(frozen=True)
class Batch:
    cosine: Tensor
    labels: Tensor
    norms: Tensor

    @property
    def targets(self) -> Tensor:
        return self.cosine.gather(1, self.labels[:, None])[:, 0]


Formula = Callable[[float, bool, int, Batch], float]
"""(cosine, whether it is the right class, row, batch) -> logit."""


def batch(seed: int = 0) -> Batch:
    torch.manual_seed(seed)
    cosine = torch.rand(ROWS, COLUMNS, dtype=torch.float64) * 1.96 - 0.98
    norms = torch.rand(ROWS, dtype=torch.float64) * 120 + 4
    return Batch(cosine, torch.randint(COLUMNS, (ROWS,)), norms)


def angular(change: Callable[[float], float], scale: float) -> Formula:
    """What margins have in common that change the right class only: `change` takes its angle to its cosine."""
    return lambda c, right, i, b: scale * (change(math.acos(c)) if right else c)


def psi(theta: float, m: int) -> float:
    k = min(math.floor(m * theta / math.pi), m - 1)
    return (-1) ** k * math.cos(m * theta) - 2 * k


def sphereface(c: float, right: bool, i: int, b: Batch) -> float:
    weight = max(5.0, 1000.0 / (1 + 0.12 * 1))  # in the first step
    return b.norms[i].item() * ((weight * c + psi(math.acos(c), 4)) / (1 + weight) if right else c)


def fallback(theta: float) -> float:
    return math.cos(theta + 0.5) if theta + 0.5 <= math.pi else math.cos(theta) - 0.5 * math.sin(0.5)


def easy(theta: float) -> float:
    return math.cos(theta + (0.5 if theta < math.pi / 2 else 0.0))


def filtered(c: float, right: bool, i: int, b: Batch) -> float:
    if right:
        return 16 * (math.cos(0.9 * math.acos(c) + 0.4) - 0.15)
    return 16 * (0.0 if c > 0.4 else c)


def adaface(c: float, right: bool, i: int, b: Batch) -> float:
    if not right:
        return 64 * c
    lengths = [min(max(norm, 1e-3), 100.0) for norm in b.norms.tolist()]
    mean = 0.9 * 20 + 0.1 * statistics.mean(lengths)
    std = 0.9 * 100 + 0.1 * statistics.stdev(lengths)
    quality = min(max(0.333 * (lengths[i] - mean) / (std + 1e-3), -1), 1)
    theta = min(max(math.acos(c) - 0.4 * quality, 0), math.pi)
    return 64 * (math.cos(theta) - 0.4 * quality - 0.4)


def magface(c: float, right: bool, i: int, b: Batch) -> float:
    a = min(max(b.norms[i].item(), 10), 110)
    margin = (0.8 - 0.45) / (110 - 10) * (a - 10) + 0.45
    return 64 * (math.cos(math.acos(c) + margin) if right else c)


def magface_easy(c: float, right: bool, i: int, b: Batch) -> float:
    return 64 * c if c <= 0 else magface(c, right, i, b)


def curricularface(c: float, right: bool, i: int, b: Batch) -> float:
    t = 0.01 * statistics.mean(b.targets.tolist())
    shifted = math.cos(math.acos(b.targets[i].item()) + 0.5)
    if right:
        return 64 * shifted
    return 64 * (c * (t + c) if c > shifted else c)


def mv(f: Callable[[float], float], emphasis: Callable[[float], float]) -> Formula:
    """`emphasis`: s (t - 1) times it is added to the logit of a mis-classified class."""

    def formula(c: float, right: bool, i: int, b: Batch) -> float:
        own = f(b.targets[i].item())
        if right:
            return 32 * own
        return 32 * c + (32 * (1.2 - 1) * emphasis(c) if c > own else 0)

    return formula


def uniface(c: float, right: bool, i: int, b: Batch) -> float:
    return 64 * (c - 0.4 * right) - math.log(10 * COLUMNS)


CASES: dict[str, tuple[Callable[[], Plain], Formula]] = {
    "softmax": (Softmax, lambda c, right, i, b: c),
    "sphereface": (SphereFace, sphereface),
    "sphereface_r": (SphereFaceR, angular(lambda theta: math.cos(min(1.5, math.pi / theta) * theta), 30)),
    "cosface": (lambda: CosFace(30.0, 0.35), angular(lambda theta: math.cos(theta) - 0.35, 30)),
    "arcface": (lambda: ArcFace(30.0, 0.5), angular(lambda theta: math.cos(theta + 0.5), 30)),
    "arcface easy": (lambda: ArcFace(easy_margin=True), angular(easy, 64)),
    "arcface fallback": (lambda: ArcFace(hard_fallback=True), angular(fallback, 64)),
    "combined": (Combined, angular(lambda theta: math.cos(theta + 0.3) - 0.2, 64)),
    "combined filtered": (lambda: Combined(0.9, 0.4, 0.15, 16.0, 0.4), filtered),
    "adaface": (lambda: AdaFace(momentum=0.9), adaface),
    "magface": (MagFace, magface),
    "magface easy": (lambda: MagFace(easy_margin=True), magface_easy),
    "curricularface": (CurricularFace, curricularface),
    "elasticface": (lambda: ElasticFace(std=0.0), angular(lambda theta: math.cos(theta + 0.5), 64)),
    "elasticface cos": (
        lambda: ElasticFace(margin=0.35, std=0.0, variant="cos"),
        angular(lambda theta: math.cos(theta) - 0.35, 64),
    ),
    "mv_softmax": (MVSoftmax, mv(lambda c: c - 0.35, lambda c: c + 1)),
    "mv_softmax arc": (
        lambda: MVSoftmax(variant="arc", weighting="fixed"),
        mv(lambda c: math.cos(math.acos(c) + 0.35), lambda c: 1.0),
    ),
    "adacos": (lambda: AdaCos(COLUMNS), lambda c, right, i, b: math.sqrt(2) * math.log(COLUMNS - 1) * c),
    "uniface": (lambda: UniFace(COLUMNS), uniface),
}
each = pytest.mark.parametrize("name", CASES)


def begun(name: str, b: Batch) -> Plain:
    """The margin in its first step."""
    margin = CASES[name][0]()
    with torch.no_grad():
        margin.begin(b.targets, b.norms)
    return margin


def apply(margin: Plain, b: Batch, positives: Tensor | None = None) -> Tensor:
    return margin(b.cosine, b.targets, b.labels if positives is None else positives, b.norms)


def test_every_margin_is_covered_here() -> None:
    assert {name.split()[0] for name in CASES} == set(MARGINS)


@each
def test_values_are_the_formula_entry_by_entry(name: str) -> None:
    for seed in range(5):
        b = batch(seed)
        logits = apply(begun(name, b), b)
        for i in range(ROWS):
            for j in range(COLUMNS):
                expected = CASES[name][1](b.cosine[i, j].item(), bool(j == b.labels[i]), i, b)
                assert logits[i, j].item() == pytest.approx(expected, rel=1e-6, abs=1e-5), (i, j)


@each
def test_gradients_by_cosines_targets_and_norms(name: str) -> None:
    b = batch(1)
    margin = begun(name, b).double()
    for parameter in margin.parameters():
        parameter.requires_grad_(False)
    inputs = [tensor.clone().requires_grad_() for tensor in (b.cosine, b.targets, b.norms)]
    inputs[2].requires_grad_(name != "adaface")  # no gradient goes through its norms, on purpose
    assert torch.autograd.gradcheck(lambda x, y, norms: margin(x, y, b.labels, norms), inputs)
    assert torch.autograd.gradcheck(margin.penalty, b.norms.clone().requires_grad_())


@each
def test_rows_whose_class_is_elsewhere_get_no_margin(name: str) -> None:
    b = batch(2)
    margin = begun(name, b)
    elsewhere = b.labels.clone()
    elsewhere[[0, 3]] = -1
    logits, whole = apply(margin, b, elsewhere), apply(margin, b)
    assert torch.equal(logits[[1, 2, 4, 5]], whole[[1, 2, 4, 5]])
    negatives = torch.ones(ROWS, COLUMNS, dtype=torch.bool).scatter(1, b.labels[:, None], False)
    assert torch.equal(logits[negatives], whole[negatives])
    for i in (0, 3):
        j = int(b.labels[i])
        other = (j + 1) % COLUMNS
        moved = b.cosine.clone()
        moved[i, other] = b.cosine[i, j]  # what a wrong class of the same cosine gets
        assert logits[i, j] == margin(moved, b.targets, b.labels, b.norms)[i, other]


@each
def test_blocks_put_together_are_the_whole(name: str) -> None:
    b = batch(3)
    margin = begun(name, b)
    blocks: list[Tensor] = []
    for first, last in [(0, 3), (3, 4), (4, COLUMNS)]:
        inside = (b.labels >= first) & (b.labels < last)
        positives = torch.where(inside, b.labels - first, -1)
        blocks.append(margin(b.cosine[:, first:last], b.targets, positives, b.norms))
    assert torch.equal(torch.cat(blocks, 1), apply(margin, b))


@each
@pytest.mark.parametrize("value", [1.0, -1.0, 1.0 + 2e-7, -1.0 - 2e-7, 1.0 - 6e-8, 0.0])
def test_finite_at_the_ends_in_float32(name: str, value: float) -> None:
    cosine = torch.full((3, COLUMNS), value, requires_grad=True)
    norms = torch.tensor([0.0, 20.0, 1e4], requires_grad=True)
    labels = torch.tensor([0, 2, 1])
    targets = cosine.gather(1, labels[:, None])[:, 0]
    margin = CASES[name][0]()
    with torch.no_grad():
        margin.begin(targets, norms)
    logits = margin(cosine, targets, labels, norms)
    assert logits.dtype == torch.float32
    (torch.nn.functional.cross_entropy(logits, labels) + margin.penalty(norms)).backward()
    assert torch.isfinite(logits).all()
    for gradient in (cosine.grad, norms.grad):
        assert gradient is None or torch.isfinite(gradient).all()


def gradient_of_target(margin: Plain, theta: Tensor) -> Tensor:
    cosine = theta.cos().requires_grad_()
    zeros = torch.zeros(len(theta), dtype=torch.int64)
    margin(cosine[:, None], cosine, zeros, torch.ones_like(theta)).sum().backward()
    assert cosine.grad is not None
    return cosine.grad


def test_the_true_gradients() -> None:
    theta = torch.linspace(0.3, 2.0, 9, dtype=torch.float64)
    assert torch.allclose(gradient_of_target(ArcFace(1.0, 0.5), theta), (theta + 0.5).sin() / theta.sin())
    multiplied = 1.5 * (1.5 * theta).sin() / theta.sin()
    assert torch.allclose(gradient_of_target(SphereFaceR(1.0, 1.5), theta), multiplied)
    assert gradient_of_target(SphereFaceR(1.0, 1.5), torch.tensor([2.5])).item() == 0.0  # beyond π


@pytest.mark.parametrize(
    ("through", "exact"),
    [
        (ArcFace(2.0, 0.5, straight_through=True), ArcFace(2.0, 0.5)),
        (SphereFaceR(2.0, detach=True), SphereFaceR(2.0)),
    ],
)
def test_straight_through_has_the_values_of_the_formula_and_the_gradient_of_the_cosine(
    through: Plain, exact: Plain
) -> None:
    b = batch(4)
    assert torch.allclose(apply(through, b), apply(exact, b))
    theta = torch.linspace(0.1, 3.0, 9, dtype=torch.float64)
    assert torch.equal(gradient_of_target(through, theta), torch.full_like(theta, 2.0))


def test_angles() -> None:
    theta = torch.linspace(0.001, math.pi - 0.001, 50, dtype=torch.float64)
    assert torch.allclose(angle(theta.cos()), theta, atol=1e-6)
    for m in (1, 2, 3, 4, 7):
        assert torch.allclose(multiply_angle(theta.cos(), m), (m * theta).cos())
    one = torch.ones((), requires_grad=True)
    torch.cos(3 * angle(one)).backward()
    assert one.grad is not None
    assert one.grad.item() == pytest.approx(9.0, rel=1e-4)  # the limit m²


def test_lambda_of_sphereface_is_annealed() -> None:
    b = batch(5)
    margin = SphereFace(base=100.0, gamma=0.5, power=2.0, lambda_min=3.0)
    for step in range(1, 30):
        margin.begin(b.targets, b.norms)
        weight = max(3.0, 100.0 * (1 + 0.5 * step) ** -2)
        expected = b.norms[0].item() * (
            (weight * b.targets[0].item() + psi(math.acos(b.targets[0].item()), 4)) / (1 + weight)
        )
        assert apply(margin, b)[0, b.labels[0]].item() == pytest.approx(expected, rel=1e-5)


def test_running_statistics_over_steps() -> None:
    adaface, curricularface = AdaFace(momentum=0.9), CurricularFace(momentum=0.9)
    mean, std, t = 20.0, 100.0, 0.0
    for seed in range(10):
        b = batch(seed)
        for margin in (adaface, curricularface):
            margin.begin(b.targets, b.norms)
        lengths = [min(length, 100.0) for length in b.norms.tolist()]
        mean += 0.1 * (statistics.mean(lengths) - mean)
        std += 0.1 * (statistics.stdev(lengths) - std)
        t += 0.1 * (statistics.mean(b.targets.tolist()) - t)
    assert adaface.mean.item() == pytest.approx(mean, rel=1e-5)
    assert adaface.std.item() == pytest.approx(std, rel=1e-5)
    assert curricularface.t.item() == pytest.approx(t, abs=1e-6)
    adaface.begin(torch.zeros(1), torch.ones(1))
    assert math.isfinite(adaface.std.item())


def test_elastic_margins_are_drawn_for_each_image_and_again_after_a_resume() -> None:
    many = torch.zeros(20000)
    margin = ElasticFace(margin=0.4, std=0.05, seed=3)
    margin.begin(many, many)
    assert margin.margins.mean().item() == pytest.approx(0.4, abs=2e-3)
    assert margin.margins.std().item() == pytest.approx(0.05, abs=2e-3)
    saved = {name: value.clone() for name, value in margin.state_dict().items()}
    margin.begin(many, many)
    resumed = ElasticFace(margin=0.4, std=0.05, seed=3)
    first = margin.margins
    resumed.load_state_dict(saved)
    resumed.begin(many, many)
    assert torch.equal(resumed.margins, first)
    margin.begin(many, many)
    assert not torch.equal(margin.margins, first)
    b = batch()
    arc = ElasticFace(std=0.1)
    arc.begin(b.targets, b.norms)
    for i, drawn in enumerate(arc.margins.tolist()):
        expected = 64 * math.cos(math.acos(b.targets[i].item()) + drawn)
        assert apply(arc, b)[i, b.labels[i]].item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_elasticface_plus_gives_the_nearest_image_the_smallest_margin() -> None:
    b = batch(6)
    plain, plus = ElasticFace(), ElasticFace(plus=True)
    for margin in (plain, plus):
        margin.begin(b.targets, b.norms)
    assert sorted(plus.margins.tolist()) == sorted(plain.margins.tolist())
    by_cosine = [drawn for _, drawn in sorted(zip(b.targets.tolist(), plus.margins.tolist(), strict=True))]
    assert by_cosine == sorted(by_cosine, reverse=True)


@torch.no_grad()
def test_the_scale_of_adacos_by_loops() -> None:
    margin = AdaCos(COLUMNS)
    scale = math.sqrt(2) * math.log(COLUMNS - 1)
    for seed in range(4):
        b = batch(seed)
        margin.begin(b.targets, b.norms)
        assert margin.scale.item() == pytest.approx(scale, rel=1e-5)
        logits = apply(margin, b)
        margin.end(logits.logsumexp(1), logits.gather(1, b.labels[:, None])[:, 0])
        assert margin.scale.item() == pytest.approx(scale, rel=1e-5)  # a backward pass may compute the logits again
        total = 0.0
        for i in range(ROWS):
            total += sum(math.exp(scale * b.cosine[i, j].item()) for j in range(COLUMNS) if j != b.labels[i])
        angles = sorted(math.acos(value) for value in b.targets.tolist())
        scale = math.log(total / ROWS) / math.cos(min(math.pi / 4, angles[(ROWS - 1) // 2]))
    margin.end(torch.full((2,), 5.0), torch.full((2,), 5.0))  # other classes that weigh nothing
    assert margin.next_scale.item() == 1.0
    fixed = AdaCos(COLUMNS, dynamic=False)
    fixed.end(torch.full((2,), 50.0), torch.zeros(2))
    fixed.begin(b.targets, b.norms)
    assert fixed.scale.item() == pytest.approx(math.sqrt(2) * math.log(COLUMNS - 1))


def test_penalties_by_loops() -> None:
    norms = batch(7).norms
    held = [min(max(norm, 10), 110) for norm in norms.tolist()]
    expected = 35 * sum(a / 110**2 + 1 / a for a in held) / ROWS
    assert MagFace().penalty(norms).item() == pytest.approx(expected)
    incay = 0.5 * sum(1 / norm**2 for norm in norms.tolist()) / ROWS
    assert Softmax(incay=0.5).penalty(norms).item() == pytest.approx(incay)
    for name, (factory, _) in CASES.items():
        if name.split()[0] not in ("magface",):
            assert factory().penalty(norms).item() == 0.0


def test_a_margin_makes_the_right_class_harder() -> None:
    b = batch(3)
    b = Batch(b.cosine.clamp(-0.5, 0.9), b.labels, b.norms)
    for margin in (CosFace(), ArcFace(), Combined(), SphereFaceR(64.0), AdaFace(), MagFace(), MVSoftmax(64.0)):
        assert (apply(margin, b).gather(1, b.labels[:, None])[:, 0] < 64.0 * b.targets).all(), margin


NAN = float("nan")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CosFace(0.0), "scale > 0"),
        (lambda: CosFace(30.0, -0.1), "margin >= 0"),
        (lambda: CosFace(NAN), "got scale=nan"),
        (lambda: CosFace(float("inf")), "got scale=inf"),
        (lambda: ArcFace(-1.0), "scale > 0"),
        (lambda: ArcFace(30.0, 3.2), "margin < π"),
        (lambda: ArcFace(easy_margin=True, hard_fallback=True), "not both"),
        (lambda: Softmax(-1.0), "incay >= 0"),
        (lambda: SphereFace(0), "whole margin >= 1"),
        (lambda: SphereFace(lambda_min=-1.0), "lambda_min >= 0"),
        (lambda: SphereFaceR(margin=0.9), "margin >= 1"),
        (lambda: Combined(m2=3.2), "m2 < π"),
        (lambda: Combined(interclass_filtering_threshold=1.1), "in 0..1"),
        (lambda: AdaFace(h=0.0), "h > 0"),
        (lambda: MagFace(l_a=110.0), "l_a < u_a"),
        (lambda: CurricularFace(momentum=1.5), "momentum in 0..1"),
        (lambda: ElasticFace(std=-0.1), "std >= 0"),
        (lambda: ElasticFace(variant="ark"), r"variant of ElasticFace 'ark' \(nearest: 'arc'\)"),  # pyright: ignore
        (lambda: MVSoftmax(t=0.9), "t >= 1"),
        (lambda: MVSoftmax(weighting="fix"), "weighting of MVSoftmax 'fix'"),  # pyright: ignore
        (lambda: AdaCos(2), "num_classes >= 3"),
        (lambda: UniFace(1), "num_classes >= 2"),
    ],
)
def test_impossible_options_are_refused(make: Callable[[], Plain], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
