"""1:N search of any lists of images, in the terms of NIST FRTE and ISO/IEC 19795-1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceprint.data.fingerprint import files_fingerprint
from faceprint.data.images import read_image
from faceprint.data.lists import read_image_list
from faceprint.errors import UserError
from faceprint.evaluation import metrics
from faceprint.evaluation.curves import open_set_scores, plain_cmc, plain_open_set, sampled_roc
from faceprint.evaluation.drawn_rates import DrawnRate, HeldRates, allowed
from faceprint.evaluation.embeddings import EmbeddingSet, ImageSet
from faceprint.evaluation.intervals import Floats, Ints, PersonDraws, drawn_intervals
from faceprint.evaluation.tasks import ResultTable
from faceprint.evaluation.templates import pool_templates

Floats32 = NDArray[np.float32]

RANKS = (1, 5, 10, 20, 50)
FPIRS = ("1e-3", "3e-3", "1e-2", "3e-2", "1e-1")
FMRS = tuple(f"{digit}e-{places}" for places in (6, 5, 4, 3, 2, 1) for digit in (1, 3))
MOST_COMPARISONS = 1 << 27
TERMS = {
    "FMR": "false match rate: of comparisons of different people, those above T",
    "FNMR": "false non-match rate: of comparisons of one person, those not above T",
    "FPIR": "false-positive identification rate: of non-mated searches, those with an entry above T",
    "FNIR": "false-negative identification rate: mated searches whose mate is not above T at rank R or better",
    "selectivity": "mean number of other people above T in a search",
    "FTE": "failure to enrol: gallery images that cannot be read",
    "FTA": "failure to acquire: probe images that cannot be read; such a search finds nobody",
}
"""As ISO/IEC 19795-1 has them. NIST counts a score equal to T as above it; here T is the highest that is not."""


@dataclass(frozen=True, eq=False)
class Identification:
    """A `Task`: images 0 .. `num_gallery` - 1 are the gallery's, the others the probes'; `people` (N,) whom each shows.

    A person is enrolled with one template: the mean direction of the embeddings of all their images in the gallery.
    """

    images: ImageSet
    people: Ints
    num_gallery: int

    def score(self, embeddings: EmbeddingSet, *, draws: int = 0) -> dict[str, Any]:
        """With `draws` also `intervals` (`search_intervals`).

        Raises `UserError` for embeddings that are not finite, and for more comparisons than fit in memory.
        """
        scores, enrolled = self._scores(embeddings)
        probes = self.people[self.num_gallery :]
        ranks = metrics.mate_ranks(scores, probes, enrolled)
        mates = probes[:, None] == enrolled
        failed = sum(row < self.num_gallery for row in embeddings.unreadable)
        result: dict[str, Any] = {
            "protocol": "identification",
            "terms": TERMS,
            "num_gallery_images": self.num_gallery,
            "num_enrolled": len(enrolled),
            "num_mated_searches": int(np.count_nonzero(ranks)),
            "num_non_mated_searches": int(np.count_nonzero(ranks == 0)),
            "failures_to_enrol": failed,
            "failures_to_acquire": len(embeddings.unreadable) - failed,
            "fnir_at_rank": _fnir_at_rank(ranks, len(enrolled)),
            "identification_det": identification_det(scores, probes, enrolled),
            "comparison_det": comparison_det(scores, mates),
            "curves": [
                sampled_roc(scores.reshape(-1), mates.reshape(-1)),
                plain_cmc(ranks[ranks > 0], len(enrolled)),
                *filter(None, [plain_open_set(scores, mates, ranks)]),
            ],
        }
        drawn = {"intervals": search_intervals(result, scores, mates, ranks, probes, draws)} if draws else {}
        return {**result, **drawn}

    def _scores(self, embeddings: EmbeddingSet) -> tuple[Floats32, Ints]:
        """Cosines of probes with enrolled people (Q, G), -1 where one of the two could not be read; the people (G,)."""
        rows = np.arange(len(self.people))
        enrolled = np.unique(self.people[: self.num_gallery])
        if (len(rows) - self.num_gallery) * len(enrolled) > MOST_COMPARISONS:
            raise UserError(f"more than {MOST_COMPARISONS:,} comparisons; search the probes in several lists")
        units = pool_templates(embeddings.vectors, rows, np.ones(len(rows)))
        gallery, probes = slice(self.num_gallery), slice(self.num_gallery, None)
        people = pool_templates(units.vectors[gallery], self.people[gallery], np.ones(self.num_gallery))
        scores = units.vectors[probes] @ people.vectors.T
        scores[units.empty[probes]] = -1
        scores[:, people.empty] = -1
        return scores, people.ids

    def tables(self, result: Mapping[str, Any]) -> list[ResultTable]:
        searches = f"{result['num_mated_searches']:,} mated + {result['num_non_mated_searches']:,} non-mated searches"
        title = f"{result['model']}: {searches} among {result['num_enrolled']:,} enrolled"
        ranks = [(f"FNIR(N, R={rank}, T=none)", _percent(value)) for rank, value in result["fnir_at_rank"].items()]
        failures = ("FTE, FTA (images)", f"{result['failures_to_enrol']:,}, {result['failures_to_acquire']:,}")
        opens = [
            (*_at(p, "fpir", "false_positives"), _percent(p["fnir"]), f"{p['selectivity']:.3g}")
            for p in result["identification_det"]
        ]
        pairs = [(*_at(p, "fmr", "false_matches"), _percent(p["fnmr"])) for p in result["comparison_det"]]
        return [
            ResultTable(title, ("closed set: investigation", "rate"), [*ranks, failures]),
            ResultTable(
                "open set: FNIR(N, R=1, T)", ("FPIR(N, T)", "false positives", "T", "FNIR", "selectivity"), opens
            ),
            ResultTable("comparisons", ("FMR(T)", "false matches", "T", "FNMR(T)"), pairs),
        ]


def identification(gallery: Path, probes: Path, images: Path | None = None) -> Identification:
    """The images of two lists `path label` (as `image_list` has them) below `images`; None: below each list's folder.

    Labels are the same texts in both. A probe whose label is not in the gallery is a non-mated search. Raises
    `UserError` for malformed lists, images that are in both, and no probe with a mate.
    """
    listed = [(name, label, file.parent) for file in (gallery, probes) for name, label in read_image_list(file)]
    num_gallery = len(read_image_list(gallery))
    paths = [str((images or folder) / name) for name, _, folder in listed]
    both = set(paths[:num_gallery]) & set(paths[num_gallery:])
    if both:
        raise UserError(f"{len(both)} images are in the gallery and among the probes, such as {min(both)}")
    people = np.unique([label for _, label, _ in listed], return_inverse=True)[1].reshape(-1).astype(np.int64)
    if not np.isin(people[num_gallery:], people[:num_gallery]).any():
        raise UserError(f"no label of {probes} is in {gallery}; a person has one label in both")
    names = [name for name, _, _ in listed]
    found = ImageSet(paths, lambda i: read_image(paths[i]), lambda: files_fingerprint(paths), names)
    return Identification(found, people, num_gallery)


def identification_det(scores: Floats32, probes: Ints, enrolled: Ints) -> list[dict[str, Any]]:
    """FNIR(N, 1, T) and selectivity at the lowest T whose FPIR does not exceed each of `FPIRS` that the number of
    non-mated searches can show by one false positive; none in a closed set."""
    mates = probes[:, None] == enrolled
    strangers = int(np.count_nonzero(~mates.any(axis=1)))
    points: list[dict[str, Any]] = []
    for fpir in (name for name in FPIRS if float(name) * strangers >= 1):
        found = metrics.tpir_at_fpir(scores, probes, enrolled, float(fpir))
        others = np.count_nonzero((scores > found.threshold) & ~mates)
        points.append(
            {
                "fpir": fpir,
                "threshold": found.threshold,
                "false_positives": found.false_positives,
                "fnir": 1 - found.tpir,
                "selectivity": others / len(scores),
            }
        )
    return points


def comparison_det(scores: Floats32, mates: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """FNMR at the lowest T whose FMR does not exceed each of `FMRS` that one false match can show."""
    values, same = scores.reshape(-1).astype(np.float64), mates.reshape(-1)
    different = int(np.count_nonzero(~same))
    points = {fmr: metrics.tar_at_far(values, same, float(fmr)) for fmr in FMRS if float(fmr) * different >= 1}
    return [
        {"fmr": fmr, "threshold": point.threshold, "false_matches": point.false_accepts, "fnmr": 1 - point.tar}
        for fmr, point in points.items()
    ]


def search_intervals(
    result: Mapping[str, Any],
    scores: Floats32,
    mates: NDArray[np.bool_],
    ranks: Ints,
    probes: Ints,
    draws: int,
    seed: int = 0,
) -> dict[str, Any]:
    """The 95 % interval of each figure of `result`, by draws of the people whom the `probes` (Q,) show.

    A search weighs as often as its person is drawn; the people enrolled stay as they are. FNIR@FPIR: the threshold is
    that of the drawn searches without mate. FPIR and selectivity at each threshold, and FNMR, are at those of all
    searches (`held`).
    """
    numbers, owner = np.unique(probes, return_inverse=True)
    drawn, mated = PersonDraws(len(numbers), draws, seed), ranks > 0
    own, highest = open_set_scores(scores, mates, ranks)
    rate = DrawnRate(own, owner[mated], highest, owner[~mated])
    strangers = np.bincount(owner[~mated], minlength=len(numbers))
    fpirs = [point["fpir"] for point in result["identification_det"]]
    at_ranks = {f"fnir_at_rank_{rank}": (ranks > int(rank), mated) for rank in result["fnir_at_rank"]}
    closed = HeldRates(owner, len(numbers), at_ranks)
    held = HeldRates(owner, len(numbers), dict(_at_held_thresholds(result, scores, mates)))

    def measure(times: Ints) -> Floats:
        tpirs = rate(times, allowed([float(fpir) for fpir in fpirs], int(times @ strangers)))
        return np.concatenate([closed(times), 1 - tpirs, held(times)])

    names = [*closed.names, *(f"fnir_at_fpir_{fpir}" for fpir in fpirs), *held.names]
    made = drawn.said("labels of the probes; the gallery stays")
    return {**made, "held": held.names, "figures": drawn_intervals(drawn, names, measure)}


def _at_held_thresholds(
    result: Mapping[str, Any], scores: Floats32, mates: NDArray[np.bool_]
) -> Iterator[tuple[str, tuple[ArrayLike, ArrayLike]]]:
    """What is found at each threshold of `result`, and of how many, by search."""
    mated, own = mates.any(axis=1), np.where(mates, scores, -np.inf).max(axis=1)
    for point in result["identification_det"]:
        others = np.count_nonzero((scores > point["threshold"]) & ~mates, axis=1)
        yield f"fpir_at_fpir_{point['fpir']}", (~mated & (others > 0), ~mated)
        yield f"selectivity_at_fpir_{point['fpir']}", (others, np.ones(len(scores)))
    for point in result["comparison_det"]:
        yield f"fnmr_at_fmr_{point['fmr']}", (mated & (own <= point["threshold"]), mated)


def _fnir_at_rank(ranks: Ints, enrolled: int) -> dict[str, float]:
    """FNIR(N, R, no threshold): mated searches whose mate is beyond rank R, ties against it."""
    mated = ranks[ranks > 0]
    wanted: Sequence[int] = [rank for rank in RANKS if rank <= enrolled]
    return {str(rank): float(np.mean(mated > rank)) for rank in wanted}


def _at(point: Mapping[str, Any], rate: str, errors: str) -> tuple[str, str, str]:
    return point[rate], f"{point[errors]:,}", f"{point['threshold']:.4f}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"
