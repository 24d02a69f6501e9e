"""Protocols: options -> pairs of images -> embeddings -> one result. `PROTOCOLS` is the table of them."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError, validate_call

from faceprint.data.images import Image
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.evaluation import metrics
from faceprint.evaluation.pairs import PairSet, bin_pairs, file_pairs, synthetic_pairs
from faceprint.registry import Table, unknown

Progress = Callable[[int, int], None]
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


class Embeds(Protocol):
    """What evaluation needs of an `Embedder`."""

    @property
    def name(self) -> str: ...

    @property
    def input(self) -> InputSpec: ...

    def embed(
        self, images: Iterable[Image], *, flip: bool = False, batch_size: int = 64, progress: Progress | None = None
    ) -> NDArray[np.float32]: ...


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
    progress: Progress | None = None,
) -> Evaluation:
    """`load_protocol`, then `evaluate_pairs`."""
    pairs = load_protocol(protocol, options)
    return evaluate_pairs(embedder, pairs, flip=flip, batch_size=batch_size, progress=progress)


def evaluate_pairs(
    embedder: Embeds, pairs: PairSet, *, flip: bool = True, batch_size: int = 64, progress: Progress | None = None
) -> Evaluation:
    """Embed every image of `pairs` once and score the pairs by cosine.

    With `flip` an image's embedding is f(x) + f(mirrored x), raw outputs, normalised after the sum: the published
    rule. `progress` gets (images embedded, images). The result is that of `summarize` with the model's name, the
    flip and the images per second. Raises `UserError` where an image cannot be read or has another size than the
    network takes.
    """
    total = len(pairs.names)
    started = time.perf_counter()
    embeddings = _embed(embedder, pairs, flip, batch_size, progress)
    seconds = time.perf_counter() - started
    scores = pair_scores(embeddings, pairs)
    measured = {"model": embedder.name, "flip": flip, "images_per_second": round(total / seconds, 1)}
    return Evaluation({**summarize(scores, pairs), **measured}, scores, pairs.same)


def _embed(
    embedder: Embeds, pairs: PairSet, flip: bool, batch_size: int, progress: Progress | None
) -> NDArray[np.float32]:
    """Embeddings of all images of `pairs`, (N, D); where there are several processes each embeds its share."""
    total = len(pairs.names)

    def embed(number: int, processes: int) -> NDArray[np.float32]:
        share = range(total * number // processes, total * (number + 1) // processes)

        def told(done: int, _: int) -> None:
            if progress:
                progress(min(done * processes, total), total)

        images = prepared_images(pairs, embedder.input, share)
        return embedder.embed(images, flip=flip, batch_size=batch_size, progress=told)

    if "WORLD_SIZE" not in os.environ:  # alone: an ONNX file is evaluated without torch
        return embed(0, 1)
    from faceprint.distributed import gather_objects, rank, together, world_size

    own = together(lambda: embed(rank(), world_size()))
    return np.concatenate(gather_objects(own))


def score_pairs(embeddings: NDArray[np.float32], pairs: PairSet) -> dict[str, Any]:
    """`summarize` of the cosines of `embeddings` (N, D), one a distinct image of `pairs`."""
    return summarize(pair_scores(embeddings, pairs), pairs)


def pair_scores(embeddings: NDArray[np.floating[Any]], pairs: PairSet) -> Floats:
    """Cosine of each pair, float64 (P,). Raises `UserError` for an embedding that is not finite or zero."""
    vectors = embeddings.astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if len(bad):
        raise UserError(
            f"{len(bad):,} of {len(norms):,} embeddings are zero or not finite, the first that of"
            f" {pairs.names[int(bad[0])]}; the network's weights or its input.mean and input.std are wrong"
        )
    vectors /= norms[:, None]
    scores = np.empty(len(pairs.same))
    for start in range(0, len(scores), 65536):  # bounds the memory of the gathered vectors
        block = slice(start, start + 65536)
        scores[block] = np.einsum("pd,pd->p", vectors[pairs.first[block]], vectors[pairs.second[block]])
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
    next(prepared_images(pairs, spec, range(1)))


def prepared_images(pairs: PairSet, spec: InputSpec, numbers: range | None = None) -> Iterator[Image]:
    """The distinct images of `pairs`, or those of these `numbers`, as a network with input `spec` takes them.

    Raises as `evaluate_pairs`.
    """
    for number in range(len(pairs.names)) if numbers is None else numbers:
        image, name = pairs.read(number), pairs.names[number]
        if pairs.resize_short:
            image = _resize_short(image, spec.size)
        spec.check(image, name)
        yield image


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
