"""What one figure does not say: groups, quality, age and degradations. `ANALYSES` is the table of them.

Each function takes a `Subject` and its own options, and gives plain values for JSON.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprint.data.images import Image
from faceprint.data.pair_lists import csv_rows
from faceprint.errors import UserError
from faceprint.evaluation import fairness, metrics, quality
from faceprint.evaluation.ageing import BAND, EDGES, fnmr_by_years
from faceprint.evaluation.image_quality import PASSES, dropout_stability, embedding_norms, read_qualities
from faceprint.evaluation.pairs import PairSet, file_pairs
from faceprint.evaluation.people import people_of
from faceprint.evaluation.protocols import Progress, pair_scores, prepared_images, summarize
from faceprint.evaluation.robustness import SWEEPS, augmentation_of, degraded, rates, supported_far
from faceprint.inference.embedder import Embedder
from faceprint.registry import Table

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FAR = 1e-3
_YEAR_DAYS = 365.2425


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """The network that is judged and how it embeds; `model` is the path that it was opened from."""

    embedder: Embedder
    model: str
    flip: bool = True
    batch_size: int = 64
    device: str = "auto"
    progress: Progress | None = None

    def embed(self, images: Iterable[Image], total: int) -> NDArray[np.float32]:
        """(N, D) of `total` images, with the progress of these."""
        progress = self.progress
        show = progress and (lambda done, _total: progress(done, total))
        return self.embedder.embed(images, flip=self.flip, batch_size=self.batch_size, progress=show)

    def scores(self, pairs: PairSet) -> Floats:
        """Cosines (P,) of a verification set."""
        return pair_scores(self.embed(prepared_images(pairs, self.embedder.input), len(pairs.names)), pairs)


def analyse_fairness(
    subject: Subject, images: str, pairs: str, far: float = FAR, threshold: float | None = None
) -> dict[str, Any]:
    """Rates by group at one threshold. `pairs` is a CSV with `group_a,group_b`, BFW's table, or RFW's folder of lists.

    The threshold is that of `far` on all different pairs together, unless it is given.
    """
    sets = _rfw_sets(images, pairs) if Path(pairs).is_dir() else _annotated_set(images, pairs)
    scores = [subject.scores(chosen) for chosen, _, _ in sets]
    every, same = np.concatenate(scores), np.concatenate([chosen.same for chosen, _, _ in sets])
    group_a, group_b = (
        [name for _, names, _ in sets for name in names],
        [name for _, _, names in sets for name in names],
    )
    limit = _threshold(every, same, far, threshold)
    found = fairness.group_rates(every, same, group_a, group_b, limit)
    within = found.fmr.diagonal()
    result = {
        "analysis": "fairness",
        "model": subject.model,
        "threshold": limit,
        "far": far if threshold is None else None,
        "groups": {name: _group(found, place, far) for place, name in enumerate(found.groups)},
        "fmr_matrix": [[_number(value) for value in row] for row in found.fmr.tolist()],
        "non_mated_matrix": found.non_mated.tolist(),
        "summary": _summary(within, found.fnmr),
    }
    if len(sets) > 1:
        result["accuracy"] = _accuracies([names[0] for _, names, _ in sets], sets, scores)
    return result


def analyse_ageing(
    subject: Subject,
    images: str,
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
    scores = subject.scores(chosen)
    limit = _threshold(scores, chosen.same, far, threshold)
    people, same = people_of(chosen), chosen.same
    bins = fnmr_by_years(scores[same], elapsed, people.number[chosen.first[same]], limit, edges=edges, draws=draws)
    return {
        "analysis": "ageing",
        "model": subject.model,
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
    """Error-versus-discard of a set by a quality: `norm`, `dropout`, or a file in CR-FIQA's layout."""
    values = _qualities(subject, chosen, quality_of, passes)
    scores, same = subject.scores(chosen), chosen.same
    limit = _threshold(scores, same, far, threshold)
    of_pairs = quality.pair_quality(values, chosen.first[same], chosen.second[same])
    curve = quality.discard_curve(scores[same], of_pairs, limit)
    shown = [round(0.05 * step, 2) for step in range(20)]
    return {
        "analysis": "quality",
        "model": subject.model,
        "quality": quality_of,
        "threshold": limit,
        "far": far if threshold is None else None,
        "mated": len(curve.fnmr),
        "false_non_matches": int(np.count_nonzero(scores[same] <= limit)),
        "distinct_qualities": len(np.unique(of_pairs)),
        "fnmr": {f"{fraction:.2f}": curve.at(fraction) for fraction in shown},
        "partial_area": {str(limit): curve.partial_area(limit) for limit in quality.PARTIAL_LIMITS},
    }


def analyse_robustness(
    subject: Subject,
    chosen: PairSet,
    kinds: str = "",
    far: float = FAR,
    seed: int = 0,
) -> dict[str, Any]:
    """A set once more with its second images, and with all, degraded; `kinds` names some of `SWEEPS` by commas."""
    names = kinds.split(",") if kinds else list(SWEEPS)
    sweeps = {name: SWEEPS[name] for name in names}
    supported_far(int(np.count_nonzero(~chosen.same)), far)
    clean = subject.embed(prepared_images(chosen, subject.embedder.input), len(chosen.names))
    scores = pair_scores(clean, chosen)
    point = metrics.tar_at_far(scores, chosen.same, far)
    rows: list[dict[str, Any]] = []
    for name, sweep in sweeps.items():
        for strength in sweep.strengths:
            worse = _worse(subject, chosen, name, strength, seed)
            rows += [
                {"degradation": name, "strength": strength, "unit": sweep.unit, "degraded": which, **measured}
                for which, measured in _measured(clean, worse, chosen, far, point.threshold).items()
            ]
    return {
        "analysis": "robustness",
        "model": subject.model,
        "far": far,
        "threshold": point.threshold,
        "seed": seed,
        "clean": {
            "accuracy": summarize(scores, chosen)["accuracy"],
            **rates(scores, chosen.same, far, point.threshold),
        },
        "rows": rows,
    }


def _worse(subject: Subject, chosen: PairSet, kind: str, strength: float, seed: int) -> NDArray[np.float32]:
    images = prepared_images(chosen, subject.embedder.input)
    return subject.embed(degraded(images, augmentation_of(kind, strength), seed), len(chosen.names))


def _measured(
    clean: NDArray[np.float32], worse: NDArray[np.float32], chosen: PairSet, far: float, threshold: float
) -> dict[str, dict[str, float]]:
    second = _mixed(clean, worse, chosen)
    both = pair_scores(worse, chosen)
    return {
        which: {"accuracy": summarize(scores, chosen)["accuracy"], **rates(scores, chosen.same, far, threshold)}
        for which, scores in (("second", second), ("both", both))
    }


def _mixed(clean: NDArray[np.float32], worse: NDArray[np.float32], chosen: PairSet) -> Floats:
    """Cosines (P,) of first images as they are with second images degraded."""
    a, b = clean[chosen.first].astype(np.float64), worse[chosen.second].astype(np.float64)
    return (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def _qualities(subject: Subject, chosen: PairSet, quality_of: str, passes: int) -> Floats:
    images, spec = prepared_images(chosen, subject.embedder.input), subject.embedder.input
    if quality_of == "norm":
        return embedding_norms(subject.embedder.features, images, spec)
    if quality_of == "dropout":
        from faceprint.inference.dropout import dropout_features

        return dropout_stability(dropout_features(subject.model, subject.device), images, spec, passes)
    return read_qualities(Path(quality_of), chosen.names)


def _threshold(scores: Floats, same: Bools, far: float, threshold: float | None) -> float:
    if threshold is not None:
        return threshold
    supported_far(int(np.count_nonzero(~same)), far)
    return metrics.tar_at_far(scores, same, far).threshold


Annotated = tuple[PairSet, list[str], list[str]]
"""A set, and the groups of its pairs' first and second people."""


def _annotated_set(images: str, pairs: str) -> list[Annotated]:
    rows = csv_rows(Path(pairs))
    for column in ("group_a", "group_b"):
        if column not in rows[0][1]:
            raise UserError(f"{pairs}:1: no column {column}; fairness needs group_a and group_b (BFW: att1 and att2)")
    chosen = file_pairs(images, pairs, layout="csv")
    return [(chosen, [row["group_a"] for _, row in rows], [row["group_b"] for _, row in rows])]


def _rfw_sets(images: str, lists: str) -> list[Annotated]:
    """RFW: `lists` holds GROUP_pairs.txt, at any depth; `images` a folder GROUP for each."""
    found = sorted(Path(lists).rglob("*_pairs.txt"))
    if len(found) < 2:
        raise UserError(
            f"{lists}: {len(found)} lists GROUP_pairs.txt in it or below; RFW has one for each of four groups"
        )
    sets: list[Annotated] = []
    for path in found:
        group = path.name.removesuffix("_pairs.txt")
        chosen = file_pairs(Path(images) / group, path)
        sets.append((chosen, [group] * len(chosen.same), [group] * len(chosen.same)))
    return sets


def _group(found: fairness.GroupRates, place: int, far: float) -> dict[str, Any]:
    fmr = _number(float(found.fmr[place, place]))
    return {
        "fmr": fmr,
        "fmr_over_far": None if fmr is None else fmr / far,
        "fnmr": _number(float(found.fnmr[place])),
        "false_matches": int(found.false_matches[place, place]),
        "non_mated": int(found.non_mated[place, place]),
        "false_non_matches": int(found.false_non_matches[place]),
        "mated": int(found.mated[place]),
    }


def _summary(fmr: Floats, fnmr: Floats) -> dict[str, float | None]:
    """Of the groups with pairs of both kinds."""
    there = np.isfinite(fmr) & np.isfinite(fnmr)
    return {
        "fairness_discrepancy_rate": fairness.fairness_discrepancy_rate(fmr[there], fnmr[there]),
        "inequity_rate": fairness.inequity_rate(fmr[there], fnmr[there]),
        "garbe": fairness.garbe(fmr[there], fnmr[there]),
        "alpha": fairness.ALPHA,
    }


def _accuracies(names: list[str], sets: list[Annotated], scores: list[Floats]) -> dict[str, Any]:
    """RFW's own figures: each group's accuracy, and their sample standard deviation (ddof = 1)."""
    values = [summarize(some, part[0])["accuracy"] for some, part in zip(scores, sets, strict=True)]
    return {
        "by_group": dict(zip(names, values, strict=True)),
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
