"""Exact counting from float32 tiles: against plain sorts, with ties, with scores that float32 can't tell apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from faceprint.errors import UserError
from faceprint.evaluation import products as module
from faceprint.evaluation.products import Largest, Products, allowed_false_accepts, unit_rows


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tiles and many parts of a tile, with few rows."""
    monkeypatch.setitem(module._TILE, "cpu", (7, 11))
    monkeypatch.setattr(module, "_PART", 22)


def largest(queries: np.ndarray, gallery: np.ndarray, count: int) -> np.ndarray:
    compared = Products(queries, gallery, device="cpu")
    kept = Largest(count)
    for tile in compared.tiles():
        kept.offer(compared, tile, lambda i, j: torch.ones_like(i, dtype=torch.bool))
    return kept.of_all_processes()[0]


@pytest.mark.parametrize("count", [1, 2, 30, 500, 2500])
@pytest.mark.parametrize("kind", ["random", "collapsed", "equal", "near"])
def test_the_largest_are_those_of_a_sort(count: int, kind: str) -> None:
    random = np.random.default_rng(count)
    vectors = random.normal(size=(50, 16))
    if kind == "collapsed":
        vectors = np.ones(16) + 1e-6 * vectors
    if kind == "equal":
        vectors = np.repeat(vectors[:1], 50, 0)
    if kind == "near":
        vectors = np.repeat(vectors[:5], 10, 0) + 1e-5 * vectors
    rows = unit_rows(vectors, range(50))
    everything = np.sort((rows.astype(np.float64) @ rows.astype(np.float64).T).ravel())[::-1]
    found = largest(rows, rows, count)
    assert len(found) == count
    assert np.abs(found - everything[:count]).max() < 1e-14


def test_a_triangle_has_each_pair_once() -> None:
    rows = np.ones((30, 2), np.float32)
    compared = Products(rows, rows, device="cpu")
    seen = np.zeros((30, 30), int)
    for tile in compared.tiles(triangle=True):
        seen[tile.row : tile.row + tile.scores.shape[0], tile.column : tile.column + tile.scores.shape[1]] += 1
    assert seen.max() == 1
    assert (seen[np.triu_indices(30)] == 1).all()


def test_the_error_is_a_bound() -> None:
    rows = unit_rows(np.random.default_rng(0).normal(size=(60, 512)) + 3, range(60))
    compared = Products(rows, rows, device="cpu")
    exact = rows.astype(np.float64) @ rows.astype(np.float64).T
    for tile in compared.tiles():
        part = exact[tile.row : tile.row + tile.scores.shape[0], tile.column : tile.column + tile.scores.shape[1]]
        assert np.abs(tile.scores.numpy() - part).max() <= compared.error < 4e-5


def test_products_are_in_full_precision_and_leave_the_choice_as_it_was() -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        with module.full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_rows_without_direction(value: float) -> None:
    vectors = np.ones((3, 4))
    vectors[1] = value
    with pytest.raises(UserError, match=r"the embedding of b\.png is zero or not finite"):
        unit_rows(vectors, ["a.png", "b.png", "c.png"])


def test_false_accepts() -> None:
    assert allowed_false_accepts(1e-6, 1_319_177_865_323) == 1_319_177  # MFR-ALL
    assert allowed_false_accepts(1e-6, 100_000_000) == 100  # MegaFace, the devkit's impostors
    for far, pairs in ((1.0, 10), (-0.1, 10), (float("nan"), 10), (0.5, 1 << 40)):
        with pytest.raises(UserError):
            allowed_false_accepts(far, pairs)
