"""Drawn pairs: each possible, none twice, half and half, no person in two folds."""

from __future__ import annotations

import numpy as np
import pytest

from faceprint.data.draw_pairs import draw_different, draw_pairs, draw_same
from faceprint.errors import UserError


def test_every_pair_can_be_drawn() -> None:
    """With as many asked for as there are, each comes once: people of 4, 1, 3 and 2 images, numbered from 10 on."""
    counts = np.array([4, 1, 3, 2])
    starts = 10 + np.cumsum(counts) - counts
    images = [range(start, start + count) for start, count in zip(starts.tolist(), counts.tolist(), strict=True)]
    same = {(i, j) for own in images for i in own for j in own if i < j}
    different = {(i, j) for p in range(4) for q in range(p + 1, 4) for i in images[p] for j in images[q]}
    assert len(same) == 6 + 3 + 1
    assert len(different) == 45 - 10
    random = np.random.default_rng(0)
    drawn = draw_same(random, starts, counts, len(same))
    assert {tuple(sorted(pair)) for pair in drawn.tolist()} == same
    drawn = draw_different(random, starts, counts, len(different))
    assert {tuple(sorted(pair)) for pair in drawn.tolist()} == different


def test_pairs_of_one_size_are_drawn_alike() -> None:
    """Each of the 15 pairs of two of 3 people with 2, 3 and 1 images... is drawn about as often as the others."""
    counts = np.array([2, 3, 1])
    starts = np.array([0, 2, 5])
    random = np.random.default_rng(1)
    seen = np.zeros((6, 6), np.int64)
    for _ in range(2200):
        ((a, b),) = draw_different(random, starts, counts, 1).tolist()
        seen[a, b] += 1
    drawn = seen[seen > 0]
    assert len(drawn) == 2 * 3 + 2 * 1 + 3 * 1
    assert drawn.min() > 140  # 200 expected, standard deviation 13.5
    assert drawn.max() < 260


@pytest.mark.parametrize("num_pairs", [40, 41])
def test_folds_share_no_person(num_pairs: int) -> None:
    random = np.random.default_rng(3)
    counts = random.integers(2, 6, 30)
    person = np.repeat(np.arange(30), counts)
    drawn = draw_pairs(random, counts, num_pairs, order=random.permutation(30), folds=5)
    people = person[drawn.images]
    assert ((people[:, 0] == people[:, 1]) == drawn.same).all()
    assert drawn.same.sum() == num_pairs - num_pairs // 2
    assert sorted(set(drawn.fold.tolist())) == [1, 2, 3, 4, 5]
    assert len({tuple(sorted(pair)) for pair in drawn.images.tolist()}) == num_pairs
    in_fold = [set(people[drawn.fold == fold].ravel().tolist()) for fold in range(1, 6)]
    assert sum(map(len, in_fold)) == len(set.union(*in_fold))


def test_too_many_are_refused() -> None:
    with pytest.raises(UserError, match=r"only 1 pairs of one person, 2 are wanted"):
        draw_same(np.random.default_rng(0), np.array([0]), np.array([2]), 2)
