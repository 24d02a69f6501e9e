"""What MegaFace counts: ranks among distractors, and false accepts, exactly and tile by tile.

`megaface.py` says what the figures are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceprint.errors import UserError
from faceprint.evaluation.products import (
    Floats,
    Ints,
    Largest,
    Products,
    Progress,
    Rows,
    Tile,
    allowed_false_accepts,
)
from faceprint.evaluation.ranks import current_world

Bools = NDArray[np.bool_]

FIRST_PROBES = 100
"""Probes whose distractor scores are the devkit's impostors."""
_STEPS = 100
_DENSE = 16
_DENSE_ROWS = 64
_FEW = 8


@dataclass(frozen=True, eq=False)
class Curve:
    """Impostors of one mode: the `count` of them, the (K + 1)-th largest score, and those strictly above it."""

    impostors: int
    threshold: float
    false_accepts: int
    allowed: int
    tpr: float


@dataclass(frozen=True, eq=False)
class Counts:
    """`ranks` (P,) of the ordered pairs, from 0; the curves of modes `devkit` and `full`.

    `roc_far` and `roc_tpr` (S,) are points of the devkit's ROC. `owner` (P,) is the identity of each ordered pair,
    `genuine_owner` (G,) that of each genuine pair, and `accepted` says by mode which of those are (G,).
    """

    ranks: Ints
    devkit: Curve
    full: Curve
    roc_far: Floats
    roc_tpr: Floats
    num_genuine: int
    owner: Ints
    genuine_owner: Ints
    accepted: Mapping[str, Bools]

    def rank_k(self, k: int) -> float:
        """The fraction of pairs with a mate among the first k."""
        return float(np.count_nonzero(self.ranks < k) / len(self.ranks))


def count_megaface(
    probes: Rows,
    identity: Ints,
    distractors: Rows,
    *,
    far: float = 1e-6,
    listed: int | None = None,
    normalised: bool = True,
    device: str = "auto",
    progress: Progress | None = None,
) -> Counts:
    """Count as `megaface.py` says: `probes` (Q, D) and `distractors` (M, D) float32, `identity` (Q,) whole numbers.

    `normalised` says that all are of length 1. `listed` distractors stand behind each FAR (default M). Memory is that
    of the vectors, a tile and K scores; every process must call it, each counts a share. Where every mate is found the
    time is that of the product; mates that are not found cost a comparison for each distractor. Raises `UserError`
    where no person has two images or there are no distractors.
    """
    search = _Search(
        probes, identity, distractors, far, len(distractors) if listed is None else listed, normalised, device
    )
    for tile in search.products.tiles(progress=progress):
        search.take(tile)
    return search.counts()


class _Search:
    """What is counted, tile by tile. Thresholds of probe i are the scores of its mates, rising; those of the devkit's
    probes hold points of the ROC too."""

    def __init__(
        self, probes: Rows, identity: Ints, distractors: Rows, far: float, listed: int, normalised: bool, device: str
    ) -> None:
        first, second = _ordered_pairs(identity)
        if not len(first) or not len(distractors):
            raise UserError(f"{len(first):,} pairs of one person, {len(distractors):,} distractors; both are needed")
        queries, gallery, size = (probes, distractors, None) if normalised else _lifted(probes, distractors)
        self.products = Products(queries, gallery, device=device, magnitude=size)
        mates = probes if normalised else _lifted(probes, probes)[1]
        mate_products = Products(queries, mates, device=device, magnitude=size)
        pairs = [torch.from_numpy(rows).to(self.products.device) for rows in (first, second)]
        scores = mate_products.exact(pairs[0], pairs[1]).cpu().numpy()
        self.pair_scores = scores
        self.owner = identity[first]
        self.unordered = first < second
        self.genuine = np.sort(scores[self.unordered])[::-1]
        impostors = {"devkit": min(FIRST_PROBES, len(probes)) * listed, "full": len(probes) * listed}
        self.impostors = impostors
        self.largest = {mode: Largest(allowed_false_accepts(far, count) + 1) for mode, count in impostors.items()}
        steps = np.unique(np.ceil(np.linspace(1, len(self.genuine), min(_STEPS, len(self.genuine)))).astype(np.int64))
        self.roc_ranks = steps
        self._arrange(first, scores, len(probes))

    def _arrange(self, first: Ints, scores: Floats, num_probes: int) -> None:
        """Thresholds by probe, rising. A ROC point counts impostors that reach a genuine score: ties count against."""
        points = self.genuine[self.roc_ranks - 1]
        devkit = min(FIRST_PROBES, num_probes)
        owners = np.concatenate([first, np.repeat(np.arange(devkit), len(points))])
        tie = self.products.tie
        values = np.concatenate([scores + tie, np.tile(points - tie, devkit)])
        self.order = np.lexsort((values, owners))
        self.thresholds = values[self.order]
        self.edges = np.searchsorted(owners[self.order], np.arange(num_probes + 1))
        self.above = np.zeros(len(values), np.int64)
        lowest = np.full(num_probes, np.inf)
        has = self.edges[1:] > self.edges[:-1]
        lowest[has] = self.thresholds[self.edges[:-1][has]]
        self.lowest = torch.from_numpy(lowest - self.products.error).to(self.products.device)

    def take(self, tile: Tile) -> None:
        self.largest["full"].offer(self.products, tile, _all)
        if tile.row < FIRST_PROBES:
            self.largest["devkit"].offer(self.products, tile, lambda rows, _: rows < FIRST_PROBES)
        rows = (tile.peaks > self.lowest[tile.row : tile.row + len(tile.peaks)]).nonzero().flatten()
        near: list[tuple[Ints, Ints, Ints]] = []
        dense: list[int] = []
        for row in rows.tolist():
            found = self._count(tile, row)
            if found is None:
                dense.append(row)
            else:
                near.append(found)
        self._settle(tile, near)
        for start in range(0, len(dense), _DENSE_ROWS):
            self._count_exactly(tile, dense[start : start + _DENSE_ROWS])

    def _own(self, probe: int) -> slice:
        return slice(int(self.edges[probe]), int(self.edges[probe + 1]))

    def _count(self, tile: Tile, row: int) -> tuple[Ints, Ints, Ints] | None:
        """Count one probe's scores; what is too near to say as (threshold, probe, gallery row). None: nearly all is."""
        own = self._own(tile.row + row)
        counts, places, columns = count_above(tile.scores[row].cpu().numpy(), self.thresholds[own], self.products.error)
        if len(columns) * _DENSE > tile.scores.shape[1]:
            return None
        self.above[own] += counts
        return places + own.start, np.full(len(places), tile.row + row), columns + tile.column

    def _settle(self, tile: Tile, near: list[tuple[Ints, Ints, Ints]]) -> None:
        if not near:
            return
        place, probe, column = (np.concatenate(parts) for parts in zip(*near, strict=True))
        pairs = [torch.from_numpy(rows).to(self.products.device) for rows in (probe, column)]
        exact = self.products.exact(pairs[0], pairs[1]).cpu().numpy()
        np.add.at(self.above, place[exact > self.thresholds[place]], 1)

    def _count_exactly(self, tile: Tile, rows: Sequence[int]) -> None:
        columns = slice(tile.column, tile.column + tile.scores.shape[1])
        probes = torch.tensor(rows, device=self.products.device) + tile.row
        exact = self.products.exact_rows(probes, columns).cpu().numpy()
        for probe, scores in zip(probes.tolist(), exact, strict=True):
            own = self._own(probe)
            rising = np.sort(scores)
            self.above[own] += len(rising) - np.searchsorted(rising, self.thresholds[own], "right")

    def counts(self) -> Counts:
        above = np.empty(len(self.above), np.int64)
        above[self.order] = np.sum(current_world().gather_objects(self.above), axis=0)
        pairs = len(self.pair_scores)
        reached = above[pairs:].reshape(-1, len(self.roc_ranks)).sum(0)
        curves = {mode: self._curve(mode) for mode in self.impostors}
        genuine = self.pair_scores[self.unordered]
        return Counts(
            ranks=above[:pairs],
            devkit=curves["devkit"],
            full=curves["full"],
            roc_far=reached / self.impostors["devkit"],
            roc_tpr=self.roc_ranks / len(self.genuine),
            num_genuine=len(self.genuine),
            owner=self.owner,
            genuine_owner=self.owner[self.unordered],
            accepted={mode: genuine > curve.threshold + self.products.tie for mode, curve in curves.items()},
        )

    def _curve(self, mode: str) -> Curve:
        largest, tie = self.largest[mode], self.products.tie
        scores, _ = largest.of_all_processes()
        # With noises left out there may be fewer impostors than may be accepted.
        threshold = float(scores[-1]) if len(scores) == largest.count else -np.inf
        return Curve(
            impostors=self.impostors[mode],
            threshold=threshold,
            false_accepts=int(np.count_nonzero(scores > threshold + tie)),
            allowed=largest.count - 1,
            tpr=float(np.count_nonzero(self.genuine > threshold + tie) / len(self.genuine)),
        )


def _all(rows: Tensor, columns: Tensor) -> Tensor:
    return torch.ones_like(rows, dtype=torch.bool)


def count_above(values: NDArray[np.float32], thresholds: Floats, error: float) -> tuple[Ints, Ints, Ints]:
    """How many `values` (C,), each off by at most `error`, are above each of the rising `thresholds` (T,) for certain.

    And which are too near to say, as (threshold, value) numbers (P,), (P,). What is below one threshold for certain is
    not looked at again, so that thresholds above all values cost nothing.
    """
    counts = np.zeros(len(thresholds), np.int64)
    places: list[Ints] = [np.empty(0, np.int64)]
    columns: list[Ints] = [np.empty(0, np.int64)]
    numbers: Ints | None = None  # of the values that are left; None: all are
    for place, threshold in enumerate(thresholds.tolist()):
        possible = values > threshold - error
        kept = np.count_nonzero(possible)
        if not kept:
            break
        if _FEW * kept < len(values):  # to gather many takes longer than to compare them again
            left = np.flatnonzero(possible)
            values, numbers = values[left], left if numbers is None else numbers[left]
            possible = np.ones(kept, np.bool_)
        certain = values > threshold + error
        counts[place] = np.count_nonzero(certain)
        if counts[place] != kept:
            near = np.flatnonzero(possible ^ certain)
            places.append(np.full(len(near), place))
            columns.append(near if numbers is None else numbers[near])
    return counts, np.concatenate(places), np.concatenate(columns)


def _ordered_pairs(identity: Ints) -> tuple[Ints, Ints]:
    """All (i, j), i != j, of one person, by i."""
    pairs = [np.flatnonzero(identity == person) for person in np.unique(identity)]
    first = np.concatenate([np.repeat(rows, len(rows)) for rows in pairs] or [np.empty(0, np.int64)])
    second = np.concatenate([np.tile(rows, len(rows)) for rows in pairs] or [np.empty(0, np.int64)])
    keep = first != second
    return first[keep], second[keep]


def _lifted(queries: Rows, gallery: Rows) -> tuple[Rows, Rows, float]:
    """Vectors whose inner product is -||x - y||^2 / 2, and a bound of its terms' sum.

    x becomes (x, 1, 1, a, b) and y (y, c, d, 1, 1), where a + b = -||x||^2 / 2 and c + d = -||y||^2 / 2, each in two
    float32 parts, which together hold 48 bits.
    """
    ones = (np.ones((len(queries), 2), np.float32), np.ones((len(gallery), 2), np.float32))
    halves = [_two_parts(-np.einsum("nd,nd->n", rows, rows, dtype=np.float64) / 2) for rows in (queries, gallery)]
    longest = sum(float(np.sqrt(-2 * half.sum(1, dtype=np.float64).min())) for half in halves)
    lifted = (np.hstack([queries, ones[0], halves[0]]), np.hstack([gallery, halves[1], ones[1]]))
    return lifted[0], lifted[1], longest**2


def _two_parts(values: Floats) -> Rows:
    high = values.astype(np.float32)
    return np.stack([high, (values - high).astype(np.float32)], axis=1)


def devkit_curves(counts: Counts) -> dict[str, Any]:
    """CMC and ROC in the layout of the devkit's result file: `cmc` [ranks from 0, recall], `roc` [FAR, TPR].

    As there, a point of the CMC is kept where recall rose by 0.01 since the last one kept, and the last. The ROC has
    the impostors of mode `devkit`, at every hundredth of TPR. `traditional_cmc` is not made: it is not published.
    """
    ranks, pairs = np.unique(counts.ranks, return_counts=True)
    recall = np.cumsum(pairs) / len(counts.ranks)
    if ranks[0] != 0:
        ranks, recall = np.concatenate([[0], ranks]), np.concatenate([[0.0], recall])
    kept = [0]
    for place in range(1, len(ranks)):
        if recall[place] - recall[kept[-1]] >= 0.01 or place == len(ranks) - 1:
            kept.append(place)
    return {
        "cmc": [ranks[kept].tolist(), recall[kept].tolist()],
        "roc": [counts.roc_far.tolist(), counts.roc_tpr.tolist()],
    }
