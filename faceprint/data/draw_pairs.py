"""Drawing verification pairs from labelled images: folds that share no person, no pair twice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceprint.data.pair_lists import NUM_FOLDS
from faceprint.errors import UserError

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DrawnPairs:
    """P pairs: `images` (P, 2) int64, image numbers; `same` (P,); `fold` (P,), from 1, without gaps.

    In each fold the pairs of one person come first, then those of two.
    """

    images: Ints
    same: NDArray[np.bool_]
    fold: Ints


def draw_pairs(
    random: np.random.Generator, counts: Ints, num_pairs: int, *, order: Ints | None = None, folds: int = NUM_FOLDS
) -> DrawnPairs:
    """`num_pairs` pairs, half of one person, half of two (an odd one is of one); image numbers run person by person.

    `counts[p]` is how many images person p has. The people, in `order` (as numbered where None), are cut into as many
    groups as there are folds; each pair is drawn from all pairs of its group alike. There are fewer folds where people
    or pairs are few. Raises `UserError` where a group has not as many pairs as are wanted.
    """
    groups = fold_groups(len(counts), num_pairs, order=order, folds=folds)
    wanted = pairs_per_fold(num_pairs, len(groups))
    starts = np.cumsum(counts) - counts
    blocks: list[Ints] = []
    for group, (num_same, num_different) in zip(groups, wanted, strict=True):
        blocks.append(draw_same(random, starts[group], counts[group], num_same))
        blocks.append(draw_different(random, starts[group], counts[group], num_different))
    return join_blocks(blocks)


def fold_groups(num_people: int, num_pairs: int, *, order: Ints | None = None, folds: int = NUM_FOLDS) -> list[Ints]:
    """The people of each fold."""
    people = np.arange(num_people, dtype=np.int64) if order is None else order
    return list(np.array_split(people, max(1, min(folds, num_people // 2, num_pairs // 2))))


def pairs_per_fold(num_pairs: int, folds: int) -> list[tuple[int, int]]:
    """How many pairs (of one person, of two) each fold has: as equal as can be."""
    same, different = ([len(block) for block in np.array_split(np.empty(n), folds)] for n in _halves(num_pairs))
    return list(zip(same, different, strict=True))


def join_blocks(blocks: list[Ints]) -> DrawnPairs:
    """Pairs from blocks (n, 2) of image numbers: fold 1 same, fold 1 different, fold 2 same …"""
    sizes = [len(block) for block in blocks]
    folds = len(blocks) // 2
    return DrawnPairs(
        images=np.concatenate(blocks),
        same=np.repeat(np.tile([True, False], folds), sizes),
        fold=np.repeat(np.repeat(np.arange(1, folds + 1), 2), sizes),
    )


def draw_same(random: np.random.Generator, starts: Ints, counts: Ints, count: int) -> Ints:
    """`count` distinct pairs (count, 2) of image numbers, both of one of the people given."""
    each = counts * (counts - 1) // 2
    person, pair = _place(_choose(random, each, count, "one person"), each)
    return starts[person, None] + _unordered(pair)


def draw_different(random: np.random.Generator, starts: Ints, counts: Ints, count: int) -> Ints:
    """`count` distinct pairs (count, 2) of image numbers of two of the people given.

    Numbered without making them: person q meets all images of the people before it, one after the other.
    """
    before = np.cumsum(counts) - counts
    person, pair = _place(_choose(random, before * counts, count, "two people"), before * counts)
    earlier, image = np.divmod(pair, counts[person])
    other, place = _place(earlier, counts)
    return np.stack([starts[other] + place, starts[person] + image], axis=1)


def _halves(num_pairs: int) -> tuple[int, int]:
    return num_pairs - num_pairs // 2, num_pairs // 2


def _choose(random: np.random.Generator, available: Ints, count: int, kind: str) -> Ints:
    total = int(available.sum())
    if count > total:
        raise UserError(
            f"a fold has only {total:,} pairs of {kind}, {count:,} are wanted; ask for fewer pairs or folds, or give"
            " more identities or images of each"
        )
    return random.choice(total, count, replace=False)


def _place(index: Ints, sizes: Ints) -> tuple[Ints, Ints]:
    """Which of consecutive blocks of these sizes an index falls into, and where in it."""
    ends = np.cumsum(sizes)
    block = np.searchsorted(ends, index, side="right")
    return block, index - (ends - sizes)[block]


def _unordered(index: Ints) -> Ints:
    """Pair number k = q (q - 1) / 2 + p -> (p, q), (K, 2), p < q: (0, 1), (0, 2), (1, 2), (0, 3) ..."""
    q = ((1 + np.sqrt(1 + 8 * index.astype(np.float64))) / 2).astype(np.int64)
    q -= q * (q - 1) // 2 > index  # where the root was rounded up
    return np.stack([index - q * (q - 1) // 2, q], axis=1)
