"""What is wrong with a network's input: colour order, scale, crop or flip, found by trying them on a set of pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from faceprint.data.fingerprint import bytes_fingerprint
from faceprint.data.images import Image
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.evaluation import metrics
from faceprint.evaluation.embeddings import ImageSet, Progress
from faceprint.evaluation.intervals import bootstrap_weights, quantiles, sign_test
from faceprint.evaluation.pairs import PairSet
from faceprint.evaluation.people import people_of
from faceprint.evaluation.protocols import pair_scores, prepared_images
from faceprint.evaluation.sources import ModelSource
from faceprint.inference.embedder import BadEmbeddingError

Floats = NDArray[np.float64]

SCALES: dict[str, tuple[float, float]] = {
    "-1..1": (127.5, 127.5),
    "0..1": (0.0, 255.0),
    "0..255": (0.0, 1.0),
    "-127.5..127.5": (127.5, 1.0),
}
"""What pixels become: mean and std of `InputSpec`."""
COLOURS: tuple[Literal["rgb", "bgr"], ...] = ("rgb", "bgr")
ZOOMS = (0.85, 1.2, 1.45)
"""Middles of crops made larger (above 1, for loose crops) or smaller."""
SIGNIFICANT = 0.01
"""p-value, times the number of rivals, below which one way is called better than another."""
DRAWS = 5000


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way of feeding the network."""

    spec: InputSpec
    zoom: float = 1.0
    flip: bool = False

    def name(self) -> str:
        scale = next((name for name, pair in SCALES.items() if pair == (self.spec.mean, self.spec.std)), None)
        scale = scale or f"(x - {self.spec.mean:g}) / {self.spec.std:g}"
        crop = "" if self.zoom == 1 else f", crop x {self.zoom:g}"
        return f"{self.spec.colour} {scale}{crop}{', flip' if self.flip else ''}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Trial:
    """What a way gave: cosines (P,), or none where the embeddings were not finite or had no direction."""

    way: Way
    scores: Floats | None
    separation: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Of one `question`: is `better` (a way) better than `worse`? `p_value` is corrected for the rivals looked at.

    `in_force` says which of the two was in force when it was asked.
    """

    question: str
    better: Way
    worse: Way
    difference: float
    low: float
    high: float
    p_value: float
    in_force: Literal["better", "worse"]

    @property
    def significant(self) -> bool:
        return self.p_value < SIGNIFICANT


def _scales(way: Way) -> list[Way]:
    return [replace(way, spec=replace(way.spec, mean=mean, std=std)) for mean, std in SCALES.values()]


def _colours(way: Way) -> list[Way]:
    return [replace(way, spec=replace(way.spec, colour=colour)) for colour in COLOURS]


QUESTIONS: dict[str, Callable[[Way], list[Way]]] = {
    "scale": _scales,
    "colour": _colours,
    "crop": lambda way: [replace(way, zoom=zoom) for zoom in ZOOMS],
    "flip": lambda way: [replace(way, flip=True)],
}
"""What is asked, one after the other, and the rivals of the way that the answers before led to.

Scale comes first: with the wrong one all else looks alike.
"""


def separation(scores: Floats, same: NDArray[np.bool_]) -> float:
    """d' = (mean of same - mean of different) / sqrt((variance of same + variance of different) / 2).

    It uses every score, so it tells ways apart where accuracies, which rest on a few errors, are equal. 0 where all
    scores are equal.
    """
    return float(separations(scores, same, np.ones((1, len(scores))))[0])


def separations(scores: Floats, same: NDArray[np.bool_], weights: NDArray[Any]) -> Floats:
    """`separation` (B,) for each row of `weights` (B, P); NaN where one kind has no weight."""
    centred = scores - scores.mean()
    (a, spread_a), (b, spread_b) = (_moments(centred[kind], weights[:, kind]) for kind in (same, ~same))
    spread = np.sqrt((spread_a + spread_b) / 2)
    return np.divide(a - b, spread, out=0.0 * (a - b), where=spread > 1e-12)


def some_of(pairs: PairSet, count: int) -> PairSet:
    """At most `count` pairs of each kind, spread evenly over the set, and only their images."""
    kinds = (np.flatnonzero(pairs.same), np.flatnonzero(~pairs.same))
    kept = np.sort(np.concatenate([kind[_spread(len(kind), count)] for kind in kinds]))
    used, numbers = np.unique([pairs.first[kept], pairs.second[kept]], return_inverse=True)
    first, second = numbers.reshape(2, -1)
    return replace(
        pairs,
        names=[pairs.names[image] for image in used.tolist()],
        keys=[pairs.keys[image] for image in used.tolist()] if len(pairs.keys) else (),
        read=lambda i: pairs.read(int(used[i])),
        first=first,
        second=second,
        same=pairs.same[kept],
        fold=pairs.fold[kept],
    )


def _spread(length: int, count: int) -> NDArray[np.int64]:
    return np.linspace(0, length - 1, min(length, count)).astype(np.int64)


def diagnose(source: ModelSource, pairs: PairSet) -> dict[str, Any]:
    """Try the rivals of each of `QUESTIONS`, with the best way so far, and compare.

    Each comparison is a bootstrap over people of the difference in `separation` on the same pairs, two-sided, times
    the number of rivals (Bonferroni). The way in force stays unless another is better by that test. All images are held
    in memory: give few pairs (`some_of`). Plain values for JSON: `as_configured`, `best`, `findings`, `trials` and
    `told_apart`, whether the best way beats chance, p < 0.01.
    """
    _check(pairs)
    images = list(prepared_images(pairs, source.embedder.input))
    trials: dict[Way, Trial] = {}
    steps = _Steps(source.progress, len(pairs.names), len(SCALES) + len(ZOOMS) + 2)

    def tried(way: Way) -> Trial:
        if way not in trials:
            trials[way] = _try(replace(source, progress=steps.next()), pairs, images, way)
        return trials[way]

    chosen = start = Way(spec=source.embedder.input)
    findings: list[Finding] = []
    for question, rivals_of in QUESTIONS.items():
        ways = dict.fromkeys([chosen, *rivals_of(chosen)])
        chosen, found = _choose([tried(way) for way in ways], pairs, question)
        findings += found
    best = trials[chosen]
    return {
        "as_configured": _describe(trials[start]),
        "best": _describe(best),
        "told_apart": _beats_chance(best, pairs),
        "findings": [_finding(finding) for finding in findings],
        "trials": [_describe(trial) for trial in trials.values()],
        "num_pairs": len(pairs.same),
        "people": people_of(pairs).rule,
    }


def overrides(way: dict[str, Any], given: InputSpec) -> list[str]:
    """The `key=value` words for the command line that feed the network in this way of `diagnose`, not as `given`."""
    words = [f"input.{key}={way[key]:g}" for key in ("mean", "std") if way[key] != getattr(given, key)]
    words += [f"input.colour={way['colour']}"] if way["colour"] != given.colour else []
    return words


def _choose(trials: list[Trial], pairs: PairSet, question: str) -> tuple[Way, list[Finding]]:
    """The way to go on with, and how sure that is: the first trial is the one in force."""
    usable = [trial for trial in trials if trial.scores is not None]
    if not usable:
        raise UserError("the network's embeddings are zero or not finite in every way tried; its weights are broken")
    ranked = sorted(usable, key=lambda trial: -trial.separation)
    in_force = trials[0]
    if in_force.scores is None:
        return ranked[0].way, []
    if ranked[0] is in_force:
        rivals = ranked[1:2]
        return in_force.way, [_compare(question, in_force, rival, pairs, len(usable) - 1, "better") for rival in rivals]
    found = _compare(question, ranked[0], in_force, pairs, len(usable) - 1, "worse")
    return (ranked[0].way if found.significant else in_force.way), [found]


def _compare(
    question: str, better: Trial, worse: Trial, pairs: PairSet, rivals: int, in_force: Literal["better", "worse"]
) -> Finding:
    assert better.scores is not None
    assert worse.scores is not None
    number = people_of(pairs).number
    first, second = number[pairs.first], number[pairs.second]
    weights = np.stack([*bootstrap_weights(first, second, pairs.same, DRAWS)]).astype(np.float64)
    drawn = separations(better.scores, pairs.same, weights) - separations(worse.scores, pairs.same, weights)
    inside, finite = quantiles(drawn), drawn[np.isfinite(drawn)]
    p_value = 2 * (1 + np.count_nonzero(finite <= 0)) / (1 + len(finite))
    return Finding(
        question=question,
        better=better.way,
        worse=worse.way,
        difference=better.separation - worse.separation,
        low=inside.low,
        high=inside.high,
        p_value=float(min(1.0, p_value * max(1, rivals))),
        in_force=in_force,
    )


def _try(source: ModelSource, pairs: PairSet, images: Sequence[Image], way: Way) -> Trial:
    fingerprint = pairs.fingerprint
    zoomed = ImageSet(
        pairs.names,
        lambda number: _zoomed(images[number], way.zoom),
        None if fingerprint is None else lambda: bytes_fingerprint([fingerprint().encode(), repr(way.zoom).encode()]),
    )
    changed: Any = replace(cast(Any, source.embedder), input=way.spec)
    try:
        vectors = replace(source, embedder=changed, flip=way.flip).embed(zoomed)[0].vectors
    except BadEmbeddingError:
        return Trial(way=way, scores=None, separation=-np.inf, accuracy=0.5)
    scores = pair_scores(vectors, pairs)
    best = metrics.best_threshold_accuracy(scores, pairs.same)
    return Trial(way=way, scores=scores, separation=separation(scores, pairs.same), accuracy=best.accuracy)


class _Steps:
    """One progress over several trials."""

    def __init__(self, progress: Progress | None, images: int, trials: int) -> None:
        self._progress, self._images, self._trials, self._started = progress, images, trials, 0

    def next(self) -> Callable[[int, int], None] | None:
        progress, before = self._progress, self._started * self._images
        self._started += 1
        return progress and (lambda done, _total: progress(before + done, self._images * self._trials))


def _zoomed(image: Image, zoom: float) -> Image:
    if zoom == 1:
        return image
    height, width = image.shape[:2]
    across, down = (1 - zoom) * (width - 1) / 2, (1 - zoom) * (height - 1) / 2
    matrix = np.array([[zoom, 0, across], [0, zoom, down]])
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)


def _moments(values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Mean and variance (B,) of `values` (P,) for each row of `weights` (B, P); NaN where a row weighs nothing."""
    total = weights.sum(axis=1)
    total = np.where(total > 0, total, np.nan)
    mean = weights @ values / total
    return mean, np.maximum(weights @ values**2 / total - mean**2, 0)


def _beats_chance(trial: Trial, pairs: PairSet) -> bool:
    """By a sign test of the decisions at the median score, which no label chose."""
    assert trial.scores is not None
    right = (trial.scores > np.median(trial.scores)) == pairs.same
    wins = int(np.count_nonzero(right))
    return 2 * wins > len(right) and sign_test(wins, len(right) - wins) < SIGNIFICANT


def _check(pairs: PairSet) -> None:
    same = int(np.count_nonzero(pairs.same))
    if min(same, len(pairs.same) - same) < 10:
        raise UserError(
            f"{same} same and {len(pairs.same) - same} different pairs; a diagnosis needs 10 of each at least"
        )


def _describe(trial: Trial) -> dict[str, Any]:
    usable = trial.scores is not None
    return {
        **_way(trial.way),
        "separation": trial.separation if usable else None,
        "accuracy": trial.accuracy if usable else None,
    }


def _way(way: Way) -> dict[str, Any]:
    spec = way.spec
    return {
        "name": way.name(),
        "colour": spec.colour,
        "mean": spec.mean,
        "std": spec.std,
        "zoom": way.zoom,
        "flip": way.flip,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "question": finding.question,
        "better": finding.better.name(),
        "worse": finding.worse.name(),
        "difference": finding.difference,
        "low": finding.low,
        "high": finding.high,
        "p_value": finding.p_value,
        "significant": finding.significant,
        "in_force": finding.in_force,
    }
