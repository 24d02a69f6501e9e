"""Intervals of IJB by draws of people: of pairs of templates, and of searches in several galleries. NumPy alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprint.evaluation.drawn_rates import DrawnRate, HeldRates, allowed, kept_for_draws
from faceprint.evaluation.ijb_files import TemplatePairs
from faceprint.evaluation.intervals import Floats, Ints, PersonDraws, drawn_intervals
from faceprint.evaluation.people import components


@dataclass(frozen=True, eq=False)
class GallerySearches:
    """One search of each probe: `ranks` (Q,) of the mates, 0 without one, and what `open_set_scores` makes of them."""

    ranks: Ints
    own: NDArray[np.floating[Any]]
    highest: NDArray[np.floating[Any]]


def gallery_intervals(
    subjects: Ints,
    searches: Mapping[str, GallerySearches],
    ranks: Sequence[int],
    fpirs: Sequence[str],
    draws: int,
    seed: int = 0,
) -> dict[str, Any]:
    """95 % intervals of ranks and TPIR@FPIR by both rules, over all galleries and in each, by the probes' people.

    `subjects` (Q,) are the probes' people: of them so many are drawn, the same in every gallery, and a search weighs as
    often as its person is drawn. The galleries stay as they are. The threshold of a TPIR is that of the drawn searches
    without mate. Over all galleries a rank is that of all their searches, a TPIR the plain mean.
    """
    numbers, owner = np.unique(subjects, return_inverse=True)
    people = len(numbers)
    everywhere = np.concatenate([each.ranks for each in searches.values()])
    over_all = _at_ranks(np.tile(owner, len(searches)), people, everywhere, ranks)
    parts = [
        (_at_ranks(owner, people, each.ranks, ranks), _tpirs(owner, people, each, [float(fpir) for fpir in fpirs]))
        for each in searches.values()
    ]

    def measure(times: Ints) -> Floats:
        tpirs = np.stack([tpir(times) for _, tpir in parts])
        apart = [np.append(at_ranks(times), found) for (at_ranks, _), found in zip(parts, tpirs, strict=True)]
        return np.concatenate([over_all(times), tpirs.mean(axis=0), *apart])

    rules = ("tpir_at_fpir", "tpir_at_fpir_published")
    own_names = [*over_all.names, *(f"{rule}_{fpir}" for rule in rules for fpir in fpirs)]
    names = [*own_names, *(f"{gallery} {name}" for gallery in searches for name in own_names)]
    drawn = PersonDraws(people, draws, seed)
    made = drawn.said("subjects of the probes; the galleries stay")
    return {**made, "figures": drawn_intervals(drawn, names, measure)}


def pair_intervals(
    scores: NDArray[np.floating[Any]], pairs: TemplatePairs, fars: Sequence[str], draws: int, seed: int = 0
) -> dict[str, Any]:
    """95 % intervals of TAR by the exact rule at `fars`, the highest last, of `pairs` with `scores` (P,).

    People are the templates that genuine pairs join. A genuine pair weighs as often as its person is drawn, another the
    product of its two people's times; the threshold is that of the draw.
    """
    same, person = pairs.same, _people(pairs)
    first, second, negatives = person[pairs.first[~same]], person[pairs.second[~same]], scores[~same]
    kept = kept_for_draws(int(float(fars[-1]) * len(first)), len(first))
    top = np.argpartition(negatives, len(first) - kept)[-kept:]
    complete, owner = kept == len(first), person[pairs.first[same]]
    rate = DrawnRate(scores[same], owner, negatives[top], first[top], second[top], complete=complete)
    numbers = [float(far) for far in fars]

    def measure(times: Ints) -> Floats:
        return rate(times, allowed(numbers, int(times[first] @ times[second])))

    drawn = PersonDraws(int(person.max()) + 1, draws, seed)
    figures = drawn_intervals(drawn, [f"tar_at_far_{far}" for far in fars], measure)
    return {**drawn.said("templates joined by genuine pairs"), "figures": figures}


def _people(pairs: TemplatePairs) -> Ints:
    """The person of each template that is in a pair, from 0; -1 for others."""
    rows = int(max(pairs.first.max(), pairs.second.max())) + 1
    joined = components(rows, pairs.first[pairs.same], pairs.second[pairs.same])
    used = np.zeros(rows, np.bool_)
    used[pairs.first] = used[pairs.second] = True
    person = np.full(rows, -1)
    person[used] = np.unique(joined[used], return_inverse=True)[1]
    return person


def _at_ranks(owner: Ints, people: int, found: Ints, ranks: Sequence[int]) -> HeldRates:
    mated = found > 0
    return HeldRates(owner, people, {f"rank_{rank}": (mated & (found <= rank), mated) for rank in ranks})


def _tpirs(owner: Ints, people: int, searches: GallerySearches, fpirs: Sequence[float]) -> Callable[[Ints], Floats]:
    """TPIR at each FPIR by the exact rule, then by the published one."""
    mated = searches.ranks > 0
    rate = DrawnRate(searches.own, owner[mated], searches.highest, owner[~mated])
    strangers = np.bincount(owner[~mated], minlength=people)

    def tpirs(times: Ints) -> Floats:
        total = int(times @ strangers)
        published = np.floor(np.asarray(fpirs) * total) - 1
        return rate(times, np.append(allowed(fpirs, total), published))

    return tpirs
