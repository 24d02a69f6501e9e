"""Protocols: options -> pairs of images -> embeddings -> one result. `PROTOCOLS` is the table of them."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError, validate_call

from faceprint.data.images import Image
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.evaluation import metrics
from faceprint.evaluation.embeddings import EmbeddingSet, Embeds, ImageSet, Progress, embed_set
from faceprint.evaluation.feature_files import select_rows
from faceprint.evaluation.pairs import PairSet, bin_pairs, file_pairs, synthetic_pairs
from faceprint.registry import Table, unknown

Floats = NDArray[np.float64]

PROTOCOLS: Table[Callable[..., PairSet]] = Table(
    "protocol",
    [
        ("pairs", file_pairs),
        ("bin", bin_pairs),
        ("synthetic", synthetic_pairs),
    ],
)
"""Name -> function that makes the pairs; its arguments are the protocol's options."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """`result`, plain values for JSON and table, and what it rests on: cosines `scores` (P,) and `same` (P,) bool."""

    result: dict[str, Any]
    scores: Floats
    same: NDArray[np.bool_]


def protocol_options(protocol: str) -> list[str]:
    """Names of the options of `protocol`. Raises `UserError` for an unknown one."""
    return list(inspect.signature(PROTOCOLS[protocol]).parameters)


def load_protocol(protocol: str, options: Mapping[str, Any]) -> PairSet:
    """The pairs of `protocol` with these options; values may be texts, as on a command line.

    Raises `UserError` for an unknown, missing or wrong option, and as the protocol's own function does.
    """
    load = validate_call(PROTOCOLS[protocol])
    try:
        return load(**options)
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
    cache: str | os.PathLike[str] | None = None,
    skip_unreadable: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """`load_protocol`, then `evaluate_pairs`."""
    pairs = load_protocol(protocol, options)
    return evaluate_pairs(
        embedder,
        pairs,
        flip=flip,
        batch_size=batch_size,
        cache=cache,
        skip_unreadable=skip_unreadable,
        progress=progress,
    )


def evaluate_pairs(
    embedder: Embeds,
    pairs: PairSet,
    *,
    flip: bool = True,
    batch_size: int = 64,
    cache: str | os.PathLike[str] | None = None,
    skip_unreadable: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Embed every image of `pairs` once, by `embed_set`, and score the pairs by cosine.

    With `flip` an image's embedding is f(x) + f(mirrored x), raw outputs, normalised after the sum: the published
    rule. `progress` gets (images embedded, images). The result is that of `evaluate_embeddings` with the flip and the
    images computed per second, null where all came from the folder `cache`. Raises `UserError` where an image cannot be
    read, unless `skip_unreadable`, or has another size than the network takes.
    """
    started = time.perf_counter()
    embeddings = embed_set(
        embedder,
        prepared_set(pairs, embedder.input),
        flip=flip,
        batch_size=batch_size,
        cache=cache,
        skip_unreadable=skip_unreadable,
        progress=progress,
    )
    speed = round(embeddings.computed / (time.perf_counter() - started), 1) if embeddings.computed else None
    evaluation = _evaluate(embeddings, pairs, embedder.name)
    measured = {"flip": flip, "images_per_second": speed, "images_computed": embeddings.computed}
    return Evaluation({**evaluation.result, **measured}, evaluation.scores, evaluation.same)


def evaluate_embeddings(embeddings: EmbeddingSet, pairs: PairSet, name: str) -> Evaluation:
    """Score `pairs` by embeddings that are there: each image's row is found by `PairSet.keys`.

    The result is that of `summarize` with `model`, which is `name`, and, where they are known or not nought,
    `mean_norm`, the XNorm of arcface_torch, and `unreadable_images`. A pair with an unreadable image scores -1, so that
    it is rejected: a failure to make a template is a false non-match for NIST too (FRTE 1:1). Raises `UserError` that
    lists images without embedding.
    """
    return _evaluate(select_rows(embeddings, pairs.keys), pairs, name)


def _evaluate(embeddings: EmbeddingSet, pairs: PairSet, name: str) -> Evaluation:
    scores = pair_scores(embeddings.vectors, pairs, embeddings.unreadable)
    result = {**summarize(scores, pairs), "model": name}
    if embeddings.view_norms is not None:
        known = embeddings.view_norms[embeddings.view_norms > 0]
        result["mean_norm"] = float(known.mean(dtype=np.float64))
    if embeddings.unreadable:
        result["unreadable_images"] = len(embeddings.unreadable)
    return Evaluation(result, scores, pairs.same)


def score_pairs(embeddings: NDArray[np.float32], pairs: PairSet) -> dict[str, Any]:
    """`summarize` of the cosines of `embeddings` (N, D), one a distinct image of `pairs`."""
    return summarize(pair_scores(embeddings, pairs), pairs)


def pair_scores(embeddings: NDArray[np.floating[Any]], pairs: PairSet, unreadable: Container[int] = ()) -> Floats:
    """Cosine of each pair, float64 (P,); -1 for a pair with an image in `unreadable`.

    Raises `UserError` for another embedding that is not finite or zero.
    """
    vectors = embeddings.astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1)
    bad = [row for row in np.flatnonzero(~np.isfinite(norms) | (norms == 0)).tolist() if row not in unreadable]
    if bad:
        raise UserError(
            f"{len(bad):,} of {len(norms):,} embeddings are zero or not finite, the first that of"
            f" {pairs.names[bad[0]]}; the network's weights or its input.mean and input.std are wrong"
        )
    norms[norms == 0] = 1
    vectors /= norms[:, None]
    scores = np.empty(len(pairs.same))
    for start in range(0, len(scores), 65536):  # bounds the memory of the gathered vectors
        block = slice(start, start + 65536)
        scores[block] = np.einsum("pd,pd->p", vectors[pairs.first[block]], vectors[pairs.second[block]])
    failed = np.array([row in unreadable for row in range(len(vectors))], np.bool_)
    scores[failed[pairs.first] | failed[pairs.second]] = -1
    return scores


def summarize(scores: Floats, pairs: PairSet) -> dict[str, Any]:
    """The result of a verification set: plain values for JSON.

    `accuracy` and `accuracy_std` (population standard deviation over folds) are those of `verification_accuracy`
    on the set's own folds, `threshold` is the mean of the folds' thresholds. A set of one fold has no other fold
    to choose a threshold on: its `accuracy` is the best that any threshold reaches, `accuracy_std` is null, and
    `accuracy_rule` says so. `tar_at_far` is given for FAR 1e-1, 1e-2 ... as far as at least one false accept
    stands behind it; `false_accepts` says how many do.
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
        return {"accuracy": best.accuracy, "accuracy_std": None, "accuracy_rule": rule, "threshold": best.threshold}
    result = metrics.verification_accuracy(scores, pairs.same, pairs.fold)
    return {
        "accuracy": result.mean,
        "accuracy_std": result.std,
        "accuracy_rule": f"{num_folds}-fold, threshold from the other folds",
        "threshold": float(result.thresholds.mean()),
    }


def check_size(pairs: PairSet, spec: InputSpec) -> None:
    """Raise `UserError` where the first image of `pairs` is none that a network with input `spec` takes."""
    next(prepared_images(pairs, spec))


def prepared_images(pairs: PairSet, spec: InputSpec) -> Iterator[Image]:
    """The distinct images of `pairs` as a network with input `spec` takes them. Raises as `evaluate_pairs`."""
    images = prepared_set(pairs, spec)
    for number, name in enumerate(images.names):
        image = images.read(number)
        spec.check(image, name)
        yield image


def prepared_set(pairs: PairSet, spec: InputSpec) -> ImageSet:
    """The distinct images of `pairs`, resized where `PairSet.resize_short` says so."""
    if not pairs.resize_short:
        return ImageSet(pairs.names, pairs.read, pairs.fingerprint)
    return ImageSet(pairs.names, lambda number: _resize_short(pairs.read(number), spec.size), pairs.fingerprint)


def _resize_short(image: Image, size: tuple[int, int]) -> Image:
    """The published rule for `.bin`: where the width differs, resize the shorter side to it, by cubic interpolation.

    An image that would not end at `size` (height, width) is returned as it is, to be refused: resizing a very
    long one could take any amount of memory.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    result = (size[1] * height // short, size[1] * width // short)
    if width == size[1] or result != size:
        return image
    return cv2.resize(image, result[::-1], interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
