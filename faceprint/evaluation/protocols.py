"""Protocols: options -> pairs of images -> embeddings -> one result. `PROTOCOLS` is the table of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError, validate_call

from faceprint.data.images import Image
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.evaluation import metrics
from faceprint.evaluation.embeddings import Embeds, Progress
from faceprint.evaluation.identification import identification
from faceprint.evaluation.ijb import ijb_1n, ijbb, ijbc
from faceprint.evaluation.megaface import load_megaface
from faceprint.evaluation.mfr import load_mfr
from faceprint.evaluation.pairs import PairSet, bin_pairs, file_pairs, synthetic_pairs
from faceprint.evaluation.sources import EmbeddingSource, ModelSource
from faceprint.evaluation.tasks import Task
from faceprint.evaluation.verification import SetPairs, verification_sets
from faceprint.registry import Table, unknown

Floats = NDArray[np.float64]
T = TypeVar("T")

PROTOCOLS: Table[Callable[..., PairSet]] = Table(
    "protocol",
    [
        ("pairs", file_pairs),
        ("bin", bin_pairs),
        ("synthetic", synthetic_pairs),
    ],
)
"""Name -> function that makes the pairs; its arguments are the protocol's options."""

SUITES: Table[Callable[..., SetPairs]] = Table("protocol", [("verification", verification_sets)])
"""Name -> function that finds several sets of pairs, by name, to be loaded one after the other."""


class Search(Protocol):
    """A protocol that compares sets of images with each other, and not listed pairs."""

    def score(
        self, source: EmbeddingSource, *, device: str = "auto", progress: Progress | None = None, draws: int = 0
    ) -> dict[str, Any]: ...


SEARCHES: Table[Callable[..., Search]] = Table("protocol", [("megaface", load_megaface), ("mfr", load_mfr)])
"""Name -> function that reads the lists of a search."""
TASKS: Table[Callable[..., Task]] = Table(
    "protocol", [("ijbb", ijbb), ("ijbc", ijbc), ("ijb_1n", ijb_1n), ("identification", identification)]
)
"""Name -> function that makes a `Task`: a protocol that scores anything else than pairs of images."""
Test = PairSet | SetPairs | Search | Task


@dataclass(frozen=True, eq=False)
class Evaluation:
    """`result`, plain values for JSON and table, and what it rests on: cosines `scores` (P,) and `same` (P,) bool.

    `pairs` are those scored, None where they are not kept.
    """

    result: dict[str, Any]
    scores: Floats
    same: NDArray[np.bool_]
    pairs: PairSet


def protocol_options(protocol: str) -> list[str]:
    """Names of the options of a row of any of the tables. Raises `UserError` for an unknown one."""
    tables = _any_table()
    if protocol not in tables:
        raise unknown("protocol", protocol, list(tables))
    return list(inspect.signature(tables[protocol]).parameters)


def load_protocol(protocol: str, options: Mapping[str, Any]) -> PairSet:
    """The pairs of `protocol` with these options; values may be texts, as on a command line.

    Raises `UserError` for an unknown, missing or wrong option, and as the protocol's own function does.
    """
    return _call(PROTOCOLS[protocol], protocol, options)


def load_test(protocol: str, options: Mapping[str, Any]) -> Test:
    """A row of any of the tables with these options, as `load_protocol`."""
    return _call(_any_table()[protocol], protocol, options)


def _any_table() -> dict[str, Callable[..., Test]]:
    return {**PROTOCOLS, **SUITES, **SEARCHES, **TASKS}


def _call(function: Callable[..., T], protocol: str, options: Mapping[str, Any]) -> T:
    try:
        return validate_call(function)(**options)
    except ValidationError as error:
        raise UserError("; ".join(_describe(item, protocol) for item in error.errors())) from error


def _describe(item: Any, protocol: str) -> str:
    option = ".".join(map(str, item["loc"]))
    if item["type"] == "unexpected_keyword_argument":
        return str(unknown(f"option of {protocol}", option, protocol_options(protocol)))
    if item["type"].startswith("missing"):
        return (
            f"protocol {protocol!r} needs the option {option}=…; its options: {', '.join(protocol_options(protocol))}"
        )
    return f"option {option} of {protocol}: {item['msg']}, got {item['input']!r}"


def evaluate(
    embedder: Embeds,
    protocol: str,
    options: Mapping[str, Any],
    *,
    flip: bool = True,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Evaluation:
    """`load_protocol`, then `evaluate_pairs`."""
    pairs = load_protocol(protocol, options)
    return evaluate_pairs(embedder, pairs, flip=flip, batch_size=batch_size, progress=progress)


def evaluate_pairs(
    embedder: Embeds, pairs: PairSet, *, flip: bool = True, batch_size: int = 64, progress: Progress | None = None
) -> Evaluation:
    """`score_source` of a network, without a cache."""
    return score_source(ModelSource(embedder, flip, batch_size, progress=progress), pairs)


def score_source(source: EmbeddingSource, pairs: PairSet) -> Evaluation:
    """Embed every image of `pairs` once and score the pairs by cosine.

    The result is that of `summarize` with `model`, the source's name, and what the source says of its embeddings; where
    they are known or not nought also `mean_norm`, the XNorm of arcface_torch, and `unreadable_images`. A pair with an
    unreadable image scores -1, so that it is rejected: a failure to make a template is a false non-match for NIST too
    (FRTE 1:1). Raises `UserError` as the source does.
    """
    embeddings, said = source.embed(pairs.images)
    scores = pair_scores(embeddings.vectors, pairs, embeddings.unreadable)
    result = {**summarize(scores, pairs), "model": source.name, **said}
    if embeddings.view_norms is not None:
        known = embeddings.view_norms[embeddings.view_norms > 0]
        result["mean_norm"] = float(known.mean(dtype=np.float64))
    if embeddings.unreadable:
        result["unreadable_images"] = len(embeddings.unreadable)
    return Evaluation(result, scores, pairs.same, pairs)


def pair_scores(
    embeddings: NDArray[np.floating[Any]],
    pairs: PairSet,
    unreadable: Container[int] = (),
    second: NDArray[np.floating[Any]] | None = None,
) -> Floats:
    """Cosine of each pair, float64 (P,); -1 for a pair with an image in `unreadable`.

    With `second`, other embeddings of the same images, a pair's second image is taken from there. Raises `UserError`
    for another embedding that is not finite or zero.
    """
    failed = np.array([row in unreadable for row in range(len(embeddings))], np.bool_)
    here = _directions(embeddings, pairs.names, failed)
    there = here if second is None else _directions(second, pairs.names, failed)
    scores = np.empty(len(pairs.same))
    for start in range(0, len(scores), 65536):  # bounds the memory of the gathered vectors
        block = slice(start, start + 65536)
        scores[block] = np.einsum("pd,pd->p", here[pairs.first[block]], there[pairs.second[block]])
    scores[failed[pairs.first] | failed[pairs.second]] = -1
    return scores


def _directions(embeddings: NDArray[np.floating[Any]], names: Sequence[str], failed: NDArray[np.bool_]) -> Floats:
    """The vectors at length 1, float64 (N, D); those that `failed` (N,) stay as they are."""
    vectors = embeddings.astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero((~np.isfinite(norms) | (norms == 0)) & ~failed)
    if len(bad):
        raise UserError(
            f"{len(bad):,} of {len(norms):,} embeddings are zero or not finite, the first that of"
            f" {names[int(bad[0])]}; the network's weights or its input.mean and input.std are wrong"
        )
    norms[failed] = 1
    vectors /= norms[:, None]
    return vectors


def summarize(scores: Floats, pairs: PairSet) -> dict[str, Any]:
    """The result of a verification set: plain values for JSON.

    `accuracy` and `accuracy_std` (population standard deviation over folds) are those of `verification_accuracy` on
    the set's own folds, `accuracy_errors` the count of wrong decisions behind it, `threshold` is the mean of the
    folds' thresholds. A set of one fold has no other fold to choose a threshold on: its `accuracy` is the best that
    any threshold reaches, `accuracy_std` is null, and `accuracy_rule` says so. `tar_at_far` is given for FAR 1e-1,
    1e-2 ... as far as at least one false accept stands behind it; `false_accepts` says how many do.
    """
    num_same = int(np.count_nonzero(pairs.same))
    num_different = len(scores) - num_same
    fars = [f"1e-{places}" for places in range(1, 10) if num_different >= 10**places]
    points = {far: metrics.tar_at_far(scores, pairs.same, float(far)) for far in fars}
    return {
        "protocol": pairs.protocol,
        "num_pairs": len(scores),
        "num_same": num_same,
        "num_different": num_different,
        "num_images": len(pairs.names),
        **_accuracy(scores, pairs),
        "tar_at_far": {far: point.tar for far, point in points.items()},
        "false_accepts": {far: point.false_accepts for far, point in points.items()},
        "eer": metrics.eer(scores, pairs.same),
        "auc": metrics.auc(scores, pairs.same),
    }


def _accuracy(scores: Floats, pairs: PairSet) -> dict[str, Any]:
    num_folds = len(np.unique(pairs.fold))
    if num_folds == 1:
        best = metrics.best_threshold_accuracy(scores, pairs.same)
        rule = "best threshold on these pairs"
        return {
            "accuracy": best.accuracy,
            "accuracy_errors": round((1 - best.accuracy) * len(scores)),
            "accuracy_std": None,
            "accuracy_rule": rule,
            "threshold": best.threshold,
        }
    result = metrics.verification_accuracy(scores, pairs.same, pairs.fold)
    return {
        "accuracy": result.mean,
        "accuracy_errors": int(np.rint((1 - result.accuracies) * np.unique(pairs.fold, return_counts=True)[1]).sum()),
        "accuracy_std": result.std,
        "accuracy_rule": f"{num_folds}-fold, threshold from the other folds",
        "threshold": float(result.thresholds.mean()),
    }


def check_size(pairs: PairSet, spec: InputSpec) -> None:
    """Raise `UserError` where the first image of `pairs` is none that a network with input `spec` takes."""
    next(prepared_images(pairs, spec))


def prepared_images(pairs: PairSet, spec: InputSpec) -> Iterator[Image]:
    """The distinct images of `pairs` as a network with input `spec` takes them. Raises as `evaluate_pairs`."""
    return (pairs.images.prepared(number, spec) for number in range(len(pairs.names)))
