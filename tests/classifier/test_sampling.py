from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from faceprint.classifier import PartialFC
from faceprint.classifier.sampling import sample_rows
from faceprint.margins import CosFace


@given(st.integers(1, 60), st.data())
def test_positives_are_kept_and_the_budget_met(rows: int, data: st.DataObject) -> None:
    positives = torch.tensor(sorted(data.draw(st.sets(st.integers(0, rows - 1)))), dtype=torch.int64)
    budget = data.draw(st.integers(0, rows))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    chosen = sample_rows(positives, rows, budget, generator).tolist()
    assert chosen == sorted(set(chosen))
    assert set(positives.tolist()) <= set(chosen) <= set(range(rows))
    assert len(chosen) == max(budget, len(positives))


@pytest.mark.parametrize("budget", [3, 5, 8])
def test_every_other_row_is_equally_likely(budget: int) -> None:
    """4,000 draws of rows 0..9 with 2 and 7 positive; the others' counts are binomial: within 5 deviations."""
    draws, generator = 4000, torch.Generator().manual_seed(1)
    counts = torch.zeros(10)
    for _ in range(draws):
        counts[sample_rows(torch.tensor([2, 7]), 10, budget, generator)] += 1
    share = (budget - 2) / 8
    others = counts[[0, 1, 3, 4, 5, 6, 8, 9]]
    assert counts[2] == counts[7] == draws
    assert (others - draws * share).abs().max() < 5 * (draws * share * (1 - share)) ** 0.5


def test_few_of_many_rows_take_no_memory_of_all() -> None:
    chosen = sample_rows(torch.tensor([7, 10**15 - 1]), 10**15, 1000, torch.Generator().manual_seed(0))
    assert len(chosen) == 1000
    assert {7, 10**15 - 1} <= set(chosen.tolist())


def test_draws_are_functions_of_seed_and_step() -> None:
    def draws(seed: int, start: int) -> list[list[int]]:
        torch.manual_seed(seed)
        classifier = PartialFC(4, 100, CosFace(), 0.1)
        classifier.draws.fill_(start)
        torch.rand(seed + start + 1)  # what else was drawn does not matter
        found: list[list[int]] = []
        for _ in range(3):
            classifier(torch.randn(2, 4, requires_grad=True), torch.tensor([3, 50])).backward()
            found.append(classifier.gradients.pop()[0].tolist())
        return found

    assert draws(0, 0) == draws(0, 0)
    assert draws(0, 0)[1:] == draws(0, 1)[:2]
    assert draws(0, 0) != draws(1, 0)
    assert len({tuple(rows) for rows in draws(0, 0)}) == 3


def test_evaluation_compares_with_all_classes() -> None:
    classifier = PartialFC(4, 50, CosFace(), 0.1).eval()
    _, statistics = classifier.measure(torch.randn(3, 4), torch.tensor([1, 2, 3]))
    assert statistics.active_classes == 50
    assert statistics.positives == 3
