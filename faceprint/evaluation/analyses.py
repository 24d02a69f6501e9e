"""What one figure does not say: groups, quality, age and degradations. `ANALYSES` is the table of them.

Each function takes a `Subject` and its own options, and gives plain values for JSON.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprint.data.pair_lists import csv_rows
from faceprint.errors import UserError
from faceprint.evaluation import fairness, metrics, quality
from faceprint.evaluation.ageing import BAND, EDGES, fnmr_by_years
from faceprint.evaluation.curves import plain_curve
from faceprint.evaluation.image_quality import PASSES, dropout_stability, embedding_norms, read_qualities
from faceprint.evaluation.pairs import PairSet, file_pairs
from faceprint.evaluation.people import people_of
from faceprint.evaluation.protocols import Evaluation, pair_scores, prepared_images, score_source, summarize
from faceprint.evaluation.robustness import SWEEPS, degraded_images, rates, supported_far
from faceprint.evaluation.sources import EmbeddingSource
from faceprint.evaluation.uncertainty import group_intervals
from faceprint.inference.embedder import Embedder
from faceprint.registry import Table

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FAR = 1e-3
_YEAR_DAYS = 365.2425


@dataclass(frozen=True, eq=False, kw_only=True)
class Network:
    """A network opened from `model` on `device`, for what embeddings alone cannot tell."""

    embedder: Embedder
    model: str
    device: str = "auto"


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """What is judged: the `source` of its embeddings, and the `network` itself, None for embeddings made elsewhere."""

    source: EmbeddingSource
    network: Network | None = None

    def needed(self, what: str) -> Network:
        """The network. Raises `UserError` where there is none, which `what` cannot do without."""
        if self.network is None:
            raise UserError(f"{what} needs a network; {self.source.name} has embeddings that are made")
        return self.network


def analyse_fairness(
    subject: Subject,
    images: str | None,
    pairs: str,
    far: float = FAR,
    threshold: float | None = None,
    intervals: int = 0,
) -> dict[str, Any]:
    """Rates by group at one threshold. `pairs` is a CSV with `group_a,group_b`, BFW's table, or RFW's folder of lists.

    The threshold is that of `far` on all different pairs together, unless it is given. `intervals` is how often people
    are drawn for the intervals of rates and summaries.
    """
    sets = _rfw_sets(images, pairs) if Path(pairs).is_dir() else _annotated_set(images, pairs)
    scored = [score_source(subject.source, chosen) for chosen, _, _ in sets]
    every, same = (np.concatenate([getattr(part, name) for part in scored]) for name in ("scores", "same"))
    group_a, group_b = (
        [name for _, names, _ in sets for name in names],
        [name for _, _, names in sets for name in names],
    )
    limit = _threshold(every, same, far, threshold)
    found = fairness.group_rates(every, same, group_a, group_b, limit)
    chosen_far = far if threshold is None else None
    result = {
        "protocol": "fairness",
        "model": subject.source.name,
        "threshold": limit,
        "far": chosen_far,
        "groups": {name: _group(found, place, chosen_far) for place, name in enumerate(found.groups)},
        "fmr_matrix": [[_number(value) for value in row] for row in found.fmr.tolist()],
        "non_mated_matrix": found.non_mated.tolist(),
        "summary": {**fairness.summaries(found.fmr.diagonal(), found.fnmr), "alpha": fairness.ALPHA},
    }
    if intervals:
        within = fairness.WithinGroups(every, same, group_a, group_b, limit)
        result["intervals"] = group_intervals(within, same, [chosen for chosen, _, _ in sets], intervals)
    if len(sets) > 1:
        result["accuracy"] = _accuracies({names[0]: part for (_, names, _), part in zip(sets, scored, strict=True)})
    return result


def analyse_ageing(
    subject: Subject,
    images: str | None,
    pairs: str,
    far: float = FAR,
    threshold: float | None = None,
    years: str = "",
    draws: int = 1000,
) -> dict[str, Any]:
    """FNMR by the years between two images of a person; `years` are the edges of the bins, such as 0,2,4,8.

    `pairs` is a CSV with `years`, `date_a,date_b` (2020-12-31) or `age_a,age_b`; same pairs need them. The threshold is
    that of `far` on the different pairs, unless it is given.
    """
    columns = _told_by(Path(pairs))
    chosen = file_pairs(images, pairs, layout="csv")
    elapsed = _elapsed(Path(pairs), columns, chosen.same)
    edges = _edges(years)
    scores = score_source(subject.source, chosen).scores
    limit = _threshold(scores, chosen.same, far, threshold)
    people, same = people_of(chosen), chosen.same
    bins = fnmr_by_years(scores[same], elapsed, people.number[chosen.first[same]], limit, edges=edges, draws=draws)
    return {
        "protocol": "ageing",
        "model": subject.source.name,
        "threshold": limit,
        "far": far if threshold is None else None,
        "people": people.rule,
        "band": list(BAND),
        "draws": draws,
        "bins": [{**asdict(row), "to_years": _number(row.to_years)} for row in bins],
    }


def analyse_quality(
    subject: Subject,
    chosen: PairSet,
    quality_of: str = "norm",
    far: float = FAR,
    threshold: float | None = None,
    passes: int = PASSES,
) -> dict[str, Any]:
    """Error-versus-discard of a set by a quality: `norm`, `dropout`, or a file in CR-FIQA's layout.

    The norm is the mean length of the network's outputs for the image and, with flip, its mirror image.
    """
    values = _qualities(subject, chosen, quality_of, passes)
    scores, same = score_source(subject.source, chosen).scores, chosen.same
    limit = _threshold(scores, same, far, threshold)
    of_pairs = quality.pair_quality(values, chosen.first[same], chosen.second[same])
    curve = quality.discard_curve(scores[same], of_pairs, limit)
    shown = [round(0.05 * step, 2) for step in range(20)]
    return {
        "protocol": "quality",
        "model": subject.source.name,
        "quality": quality_of,
        "threshold": limit,
        "far": far if threshold is None else None,
        "mated": len(curve.fnmr),
        "false_non_matches": int(np.count_nonzero(scores[same] <= limit)),
        "distinct_qualities": len(np.unique(of_pairs)),
        "fnmr": {f"{fraction:.2f}": curve.at(fraction) for fraction in shown},
        "partial_area": {str(limit): curve.partial_area(limit) for limit in quality.PARTIAL_LIMITS},
        "curves": [plain_curve("discard", curve.discarded, curve.fnmr, f", by {Path(quality_of).name}")],
    }


def analyse_robustness(
    subject: Subject,
    chosen: PairSet,
    kinds: str = "",
    far: float = FAR,
    seed: int = 0,
) -> dict[str, Any]:
    """A set once more with its second images, and with all, degraded; `kinds` names some of `SWEEPS` by commas."""
    if seed < 0:
        raise UserError(f"seed is {seed}; allowed: a whole number from 0")
    names = kinds.split(",") if kinds else list(SWEEPS)
    sweeps = {name: SWEEPS[name] for name in names}
    spec = subject.needed("robustness").embedder.input
    supported_far(int(np.count_nonzero(~chosen.same)), far)
    clean = subject.source.embed(chosen.images)[0]
    scores = pair_scores(clean.vectors, chosen, clean.unreadable)
    point = metrics.tar_at_far(scores, chosen.same, far)

    def measured(scores: Floats) -> dict[str, float]:
        accuracy = summarize(scores, chosen)["accuracy"]
        return {"accuracy": accuracy, **rates(scores, chosen.same, far, point.threshold)}

    rows: list[dict[str, Any]] = []
    for name, sweep in sweeps.items():
        for strength in sweep.strengths:
            images = degraded_images(chosen.images, spec, name, strength, seed)
            worse = subject.source.embed(images)[0].vectors
            said = {"degradation": name, "strength": strength, "unit": sweep.unit}
            second = pair_scores(clean.vectors, chosen, clean.unreadable, worse)
            both = pair_scores(worse, chosen, clean.unreadable)
            rows += [
                {**said, "degraded": "second", **measured(second)},
                {**said, "degraded": "both", **measured(both)},
            ]
    return {
        "protocol": "robustness",
        "model": subject.source.name,
        "far": far,
        "threshold": point.threshold,
        "seed": seed,
        "clean": measured(scores),
        "rows": rows,
    }


def _qualities(subject: Subject, chosen: PairSet, quality_of: str, passes: int) -> Floats:
    if quality_of == "norm":
        return embedding_norms(subject.source.embed(chosen.images)[0])
    if quality_of == "dropout":
        from faceprint.inference.dropout import dropout_features

        network = subject.needed("quality_of=dropout")
        spec = network.embedder.input
        features = dropout_features(network.model, network.device)
        return dropout_stability(features, prepared_images(chosen, spec), spec, passes)
    return read_qualities(Path(quality_of), chosen.names)


def _threshold(scores: Floats, same: Bools, far: float, threshold: float | None) -> float:
    if threshold is not None:
        if not math.isfinite(threshold):
            raise UserError(f"threshold is {threshold}; give a finite score")
        return threshold
    supported_far(int(np.count_nonzero(~same)), far)
    return metrics.tar_at_far(scores, same, far).threshold


Annotated = tuple[PairSet, list[str], list[str]]
"""A set, and the groups of its pairs' first and second people."""


def _annotated_set(images: str | None, pairs: str) -> list[Annotated]:
    rows = csv_rows(Path(pairs))
    for column in ("group_a", "group_b"):
        if column not in rows[0][1]:
            raise UserError(f"{pairs}:1: no column {column}; fairness needs group_a and group_b (BFW: att1 and att2)")
    if (number := next((number for number, row in rows if not (row["group_a"] and row["group_b"])), None)) is not None:
        raise UserError(f"{pairs}:{number}: a person without a group; leave such pairs out, or name a group of them")
    chosen = file_pairs(images, pairs, layout="csv")
    return [(chosen, [row["group_a"] for _, row in rows], [row["group_b"] for _, row in rows])]


def _rfw_sets(images: str | None, lists: str) -> list[Annotated]:
    """RFW: `lists` holds GROUP_pairs.txt, at any depth; `images` a folder GROUP for each."""
    found = sorted(Path(lists).rglob("*_pairs.txt"))
    if len(found) < 2:
        raise UserError(
            f"{lists}: {len(found)} lists GROUP_pairs.txt in it or below; RFW has one for each of four groups"
        )
    sets: list[Annotated] = []
    for path in found:
        group = path.name.removesuffix("_pairs.txt")
        if any(group in names for _, names, _ in sets):
            raise UserError(f"{lists}: two lists {path.name} in it or below; give a folder with one for each group")
        chosen = file_pairs(None if images is None else Path(images) / group, path)
        sets.append((chosen, [group] * len(chosen.same), [group] * len(chosen.same)))
    return sets


def _group(found: fairness.GroupRates, place: int, far: float | None) -> dict[str, Any]:
    fmr = _number(float(found.fmr[place, place]))
    return {
        "fmr": fmr,
        "fmr_over_far": None if fmr is None or far is None else fmr / far,
        "fnmr": _number(float(found.fnmr[place])),
        "false_matches": int(found.false_matches[place, place]),
        "non_mated": int(found.non_mated[place, place]),
        "false_non_matches": int(found.false_non_matches[place]),
        "mated": int(found.mated[place]),
    }


def _accuracies(scored: Mapping[str, Evaluation]) -> dict[str, Any]:
    """RFW's own figures: each group's accuracy, and their sample standard deviation (ddof = 1)."""
    by_group = {name: part.result["accuracy"] for name, part in scored.items()}
    values = list(by_group.values())
    return {
        "by_group": by_group,
        "mean": float(np.mean(values)),
        "std_between_groups": float(np.std(values, ddof=1)),
        "skewed_error_ratio": fairness.skewed_error_ratio(values),
    }


def _told_by(path: Path) -> tuple[str, ...]:
    """The columns that tell the years between two images."""
    columns = csv_rows(path)[0][1]
    for names in _ELAPSED:
        if all(name in columns for name in names):
            return names
    raise UserError(f"{path}:1: no column years, nor date_a and date_b, nor age_a and age_b")


def _elapsed(path: Path, names: tuple[str, ...], same: Bools) -> Floats:
    """Years (M,) between the images of each same pair."""
    rows = zip(csv_rows(path), same.tolist(), strict=True)
    told = [(number, [row[name] for name in names]) for (number, row), kept in rows if kept]
    return np.array([_years(path, number, texts, _ELAPSED[names]) for number, texts in told])


def _years(path: Path, number: int, texts: list[str], between: Callable[..., float]) -> float:
    try:
        value = abs(between(*texts))
    except ValueError as error:
        raise UserError(f"{path}:{number}: {', '.join(texts)[:60]!r}: {error}") from error
    if not math.isfinite(value):
        raise UserError(f"{path}:{number}: {', '.join(texts)[:60]!r} gives no finite number of years")
    return value


def _days(a: str, b: str) -> float:
    return (date.fromisoformat(b) - date.fromisoformat(a)).days / _YEAR_DAYS


_ELAPSED: dict[tuple[str, ...], Callable[..., float]] = {
    ("years",): float,
    ("date_a", "date_b"): _days,
    ("age_a", "age_b"): lambda a, b: float(b) - float(a),
}


def _edges(text: str) -> tuple[float, ...]:
    try:
        given = tuple(float(part) for part in text.split(",")) if text else EDGES
    except ValueError as error:
        raise UserError(f"years is {text!r}; give edges of bins such as 0,2,4,8") from error
    return given if given[-1] == math.inf else (*given, math.inf)


def _number(value: float) -> float | None:
    """JSON has neither NaN nor infinity."""
    return value if math.isfinite(value) else None


ANALYSES: Table[Callable[..., dict[str, Any]]] = Table(
    "analysis",
    [
        ("fairness", analyse_fairness),
        ("quality", analyse_quality),
        ("robustness", analyse_robustness),
        ("ageing", analyse_ageing),
    ],
)
"""Name -> function; after the subject, and the set of those that take any (`chosen`), its arguments are its options."""
