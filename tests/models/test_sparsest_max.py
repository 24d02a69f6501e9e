"""SparsestMax against its definition: the nearest point of the simplex that is as far from the centre as it must be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from faceprint.errors import UserError
from faceprint.models.norms import NORMS, SwitchNorm2d
from faceprint.models.sparsest_max import sparsemax, sparsest_max
from faceprint.models.switch_norm import sharpen

ONE_HOT_FROM = math.sqrt(2 / 3)
CENTRE = np.full(3, 1 / 3)


def nearest_by_search(logits: np.ndarray) -> np.ndarray:
    """Projection onto the simplex by a solver that knows nothing of its closed form."""
    start, bounds = np.full(len(logits), 1 / len(logits)), [(0, 1)] * len(logits)
    total = {"type": "eq", "fun": lambda p: p.sum() - 1}
    found = minimize(lambda p: ((p - logits) ** 2).sum(), start, bounds=bounds, constraints=total, tol=1e-14)
    return found.x


def on_circle(radius: float, start: np.ndarray) -> np.ndarray:
    """Of very many points of the simplex at `radius` from its centre, the one nearest to `start`."""
    angle = np.linspace(0, 2 * math.pi, 40_001)[:, None]
    right, up = np.array([1, -1, 0]) / math.sqrt(2), np.array([1, 1, -2]) / math.sqrt(6)
    points = CENTRE + radius * (np.cos(angle) * right + np.sin(angle) * up)
    points = points[(points >= -1e-9).all(1)]
    return points[((points - start) ** 2).sum(1).argmin()]


@pytest.mark.parametrize("seed", range(10))
def test_at_radius_0_it_is_the_projection_onto_the_simplex(seed: int) -> None:
    for width in (2, 3, 5):
        logits = np.random.default_rng([seed, width]).normal(0, 1, width)
        found = sparsest_max(torch.from_numpy(logits), 0.0).numpy()
        assert found == pytest.approx(nearest_by_search(logits), abs=1e-5)


@pytest.mark.parametrize("radius", [0.1, 0.3, 0.4, 0.45, 0.6, 0.75, 0.8])
@pytest.mark.parametrize("spread", [0.1, 0.4])
def test_it_goes_to_the_nearest_point_on_the_circle(radius: float, spread: float) -> None:
    random = np.random.default_rng(int(radius * 100))
    for _ in range(15):
        logits = 1 / 3 + random.normal(0, spread, 3)
        start = nearest_by_search(logits)
        found = sparsest_max(torch.from_numpy(logits), radius).numpy()
        expected = start if np.linalg.norm(start - CENTRE) >= radius else on_circle(radius, start)
        assert found == pytest.approx(expected, abs=2e-4)


def test_two_that_are_left_part_along_their_edge() -> None:
    logits = torch.tensor([0.6, 0.4, -2.0], dtype=torch.float64)
    assert sparsest_max(logits, 0.4).tolist() == pytest.approx([0.6, 0.4, 0])
    along = math.sqrt((0.6**2 - 1 / 6) / 2)  # from the edge's middle, which is sqrt(1/6) from the centre
    assert sparsest_max(logits, 0.6).tolist() == pytest.approx([0.5 + along, 0.5 - along, 0])


@given(st.lists(st.integers(-5000, 5000), min_size=3, max_size=3), st.floats(0, 1))
def test_it_is_always_a_mixture_in_the_order_of_the_logits(thousandths: list[int], radius: float) -> None:
    values = [value / 1000 for value in thousandths]
    logits = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    shares = sparsest_max(logits, radius)
    assert shares.sum().item() == pytest.approx(1)
    assert shares.min() >= 0
    assert shares[values.index(max(values))] >= shares.max() - 1e-9
    for one in range(3):
        for other in range(3):
            assert shares[one] >= shares[other] - 1e-9 or values[one] <= values[other]
    (gradient,) = torch.autograd.grad(shares[0], logits)
    assert gradient.isfinite().all()
    if radius >= ONE_HOT_FROM:
        assert sorted(shares.tolist()) == pytest.approx([0, 0, 1])


def test_a_tie_goes_to_the_first() -> None:
    for radius in (0.1, 0.5, 1.0):
        assert sparsest_max(torch.ones(3), radius).argmax() == 0
    assert sparsest_max(torch.ones(3), 1.0).tolist() == [1, 0, 0]
    assert sparsest_max(torch.tensor([-1.0, 1.0, 1.0]), 1.0).tolist() == [0, 1, 0]


@pytest.mark.parametrize("radius", [0.0, 0.2, 0.5, 0.7])
def test_gradients_pass_the_numerical_check(radius: float) -> None:
    rows = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 0.3
    assert torch.autograd.gradcheck(lambda z: sparsest_max(z, radius), rows.requires_grad_())


def test_rows_are_independent() -> None:
    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(sparsest_max(rows, 0.55), torch.stack([sparsest_max(row, 0.55) for row in rows]), atol=1e-6)
    assert torch.allclose(sparsemax(rows).sum(1), torch.ones(50))


def layer(mean: list[float], var: list[float]) -> SwitchNorm2d:
    norm = NORMS["sn"](4, 1e-5, sparsest=True)
    assert isinstance(norm, SwitchNorm2d)
    norm.mean_logits.data, norm.var_logits.data = torch.tensor(mean), torch.tensor(var)
    return norm


def test_a_layer_mixes_by_it() -> None:
    norm, x = layer([0.5, 0.3, 0.4], [0.2, 0.9, 0.1]), torch.randn(3, 4, 5, 6)
    sharpen([norm], 0.6)
    mean = sparsest_max(torch.tensor([0.5, 0.3, 0.4]), 0.6)
    var = sparsest_max(torch.tensor([0.2, 0.9, 0.1]), 0.6)
    assert torch.allclose(norm.shares(), torch.stack([mean, var]))
    assert torch.allclose(norm(x), mixture(x, mean, var, norm.eps), atol=1e-5)
    assert torch.allclose(torch.compile(norm, backend="eager")(x), norm(x), atol=1e-5)


def mixture(x: Tensor, mean_shares: Tensor, var_shares: Tensor, eps: float) -> Tensor:
    places = x.flatten(2).var(2)
    means = [x.mean((2, 3), keepdim=True), x.mean((1, 2, 3), keepdim=True), x.mean((0, 2, 3), keepdim=True)]
    square = places[:, :, None, None] + means[0] ** 2
    variances = [
        places[:, :, None, None],
        square.mean(1, keepdim=True) - means[1] ** 2,
        square.mean(0, keepdim=True) - means[2] ** 2,
    ]
    mean = sum(share * one for share, one in zip(mean_shares, means, strict=True))
    var = sum(share * one for share, one in zip(var_shares, variances, strict=True))
    return (x - mean) / (var + eps).sqrt()  # pyright: ignore


def test_what_is_one_hot_is_frozen_and_the_rest_is_not() -> None:
    decided, open_ = layer([2.0, 0.5, 0.2], [0.0, 0.3, 0.2]), layer([0.1, 0.2, 0.3], [0.3, 0.2, 0.25])
    sharpen([decided, open_], 0.5)
    assert decided.mean_logits.tolist() == [10, 0, 0]
    assert decided.var_logits.tolist() == pytest.approx([0.0, 0.3, 0.2])
    decided.mean_logits.data += torch.tensor([-3.0, 3.0, 0.0])  # what momentum is left
    decided(torch.randn(2, 4, 3, 3)).sum().backward()
    assert decided.mean_logits.grad is not None
    assert not decided.mean_logits.grad.any()
    assert decided.shares()[0].tolist() == [1, 0, 0]
    sharpen([decided, open_], 1.0)
    assert open_.shares().tolist() == [[0, 0, 1], [1, 0, 0]]
    assert decided.shares().tolist() == [[1, 0, 0], [0, 1, 0]]


def test_the_radius_is_saved_with_the_weights() -> None:
    norm, other = layer([0.5, 0.3, 0.4], [0.2, 0.9, 0.1]), layer([0.0] * 3, [0.0] * 3)
    sharpen([norm], 0.6)
    other.load_state_dict(norm.state_dict())
    assert torch.equal(other.shares(), norm.shares())
    assert "radius" not in NORMS["sn"](4, 1e-5).state_dict()


def test_a_layer_that_has_chosen_cannot_choose() -> None:
    with pytest.raises(UserError, match="argmax and sparsest"):
        NORMS["syncsn"](4, 1e-5, argmax=True, sparsest=True)
