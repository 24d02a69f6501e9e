"""What scoring costs: each case the plain way and ours, in one run, on the same numbers.

    python benchmarks/evaluation.py [CASE …]

Prints JSON: the median seconds of both, their ratio, and whether the results are the same. A case is a function of
`CASES` without arguments that returns `compare(…)`, or any other plain values; without names all cases run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprint.evaluation import metrics
from faceprint.evaluation.embedding_set import EmbeddingSet, open_embeddings
from faceprint.evaluation.ijb import FARS, tar_by_both_rules
from faceprint.evaluation.templates import image_weights, pool_templates, template_scores

REPEATS = 5


def seconds(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    """The median time of `repeats` calls, after one that is not counted."""
    work()
    taken: list[float] = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def compare(
    plain: Callable[[], Any], ours: Callable[[], Any], same: Callable[[Any, Any], bool], repeats: int = REPEATS
) -> dict[str, Any]:
    """Times of two ways to one result, and whether it is one by `same`."""
    plain_seconds, our_seconds = seconds(plain, repeats), seconds(ours, repeats)
    return {
        "plain_seconds": plain_seconds,
        "seconds": our_seconds,
        "speedup": round(plain_seconds / our_seconds, 1),
        "same_result": same(plain(), ours()),
    }


def plain_accuracy(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> list[float]:
    """The published way: for each of ten contiguous folds and 400 thresholds, all pairs are compared."""
    distance = 2 - 2 * scores
    thresholds, accuracies = np.arange(0, 4, 0.01), list[float]()
    for held_out in np.array_split(np.arange(len(scores)), 10):
        train = np.ones(len(scores), bool)
        train[held_out] = False
        reached = [np.mean((distance[train] < threshold) == same[train]) for threshold in thresholds]
        best = thresholds[np.argmax(reached)]
        accuracies.append(float(np.mean((distance[held_out] < best) == same[held_out])))
    return accuracies


def accuracy_of_6000_pairs() -> dict[str, Any]:
    """10-fold accuracy of a set of LFW's size."""
    same = np.tile(np.repeat([True, False], 300), 10)
    scores = np.clip(np.random.default_rng(0).normal(same * 0.5, 0.15), -1, 1)
    return compare(
        lambda: plain_accuracy(scores, same),
        lambda: metrics.verification_accuracy(scores, same).accuracies.tolist(),
        lambda one, other: one == other,
    )


def opening_a_million_embeddings() -> dict[str, Any]:
    """The first row and the last name of 1,000,000 x 128 float16, kept as .npz and as a set of embeddings."""
    vectors = np.random.default_rng(0).normal(size=(1_000_000, 128)).astype(np.float16)
    names = [f"m.{i // 10:06d}/{i}.jpg" for i in range(len(vectors))]

    with tempfile.TemporaryDirectory() as folder:
        file, target = Path(folder, "a.npz"), Path(folder, "set")
        np.savez(file, path=np.array(names), embedding=vectors)
        EmbeddingSet(vectors=vectors, names=names).save(target)

        def plain() -> tuple[float, str]:
            with np.load(file) as content:
                return float(content["embedding"][0, 0]), str(content["path"][-1])

        def ours() -> tuple[float, str]:
            found = open_embeddings(target)
            return float(found.vectors[0, 0]), found.names[-1]

        sizes = {"npz_bytes": file.stat().st_size, "set_bytes": sum(f.stat().st_size for f in target.iterdir())}
        return {**compare(plain, ours, lambda one, other: one == other, repeats=3), **sizes}


def plain_templates(
    features: NDArray[np.float32], template: NDArray[np.int64], media: NDArray[np.int64], wanted: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The published loop: all images are looked through for each template, its images for each medium."""
    pooled = np.zeros((len(wanted), features.shape[1]), np.float32)
    for row, number in enumerate(wanted):
        (own,) = np.where(template == number)
        for medium in np.unique(media[own]):
            pooled[row] += features[own[media[own] == medium]].mean(axis=0)
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def plain_scores(
    templates: NDArray[np.float32], first: NDArray[np.int32], second: NDArray[np.int32]
) -> NDArray[np.float32]:
    """The published loop: products of the templates of 100,000 pairs at a time, fetched for each pair."""
    parts = np.array_split(np.arange(len(first)), max(1, len(first) // 100_000))
    return np.concatenate([np.sum(templates[first[part]] * templates[second[part]], axis=1) for part in parts])


def plain_roc(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> list[float]:
    """The published rule by scikit-learn's `roc_curve`."""
    from sklearn.metrics import roc_curve

    far, tar, _ = roc_curve(same, scores)
    return [float(tar[::-1][np.argmin(np.abs(far[::-1] - float(wanted)))]) for wanted in FARS]


def ijb_of_published_size(images: int = 469_375, templates: int = 23_124, pairs: int = 15_658_489) -> dict[str, Any]:
    """IJB-C 1:1 from features (N, 512) to TAR by both rules: pairs between 3,531 templates and the others.

    The plain loops over templates and pairs are timed on a part, 1 of 40, and scaled up (`plain_scaled_by`); its ROC
    is timed whole. `peak_gib` is the most memory that the process held, the features' included, before the plain way.
    """
    rng = np.random.default_rng(0)
    features = rng.standard_normal((images, 512), dtype=np.float32)
    template = np.sort(np.concatenate([np.arange(templates), rng.integers(0, templates, images - templates)]))
    media = template * 8 + rng.integers(0, 6, images)
    numbers, gallery = rng.permutation(templates).astype(np.int32), max(1, templates * 3531 // 23_124)
    first = numbers[rng.integers(0, gallery, pairs)]
    second = numbers[rng.integers(gallery, templates, pairs)]
    same = np.arange(pairs) < max(1, pairs * 19_557 // 15_658_489)

    started = time.perf_counter()
    pooled = pool_templates(features, template, image_weights(template, media))
    scores = template_scores(pooled, first, second)
    result = tar_by_both_rules(scores, same)
    ours = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    part = 40
    some = np.arange(0, templates, part)
    started = time.perf_counter()
    plain = plain_templates(features, template, media, some)
    plain_some = plain_scores(pooled.vectors, first[: pairs // part], second[: pairs // part])
    loops = time.perf_counter() - started
    started = time.perf_counter()
    plain_tar = plain_roc(scores.astype(np.float64), same)[-len(result["tar_at_nearest_far"]) :]
    whole = part * loops + time.perf_counter() - started
    close = (
        np.abs(plain - pooled.vectors[some]).max() < 1e-6 and np.abs(plain_some - scores[: pairs // part]).max() < 1e-6
    )
    return {
        "plain_seconds": whole,
        "plain_scaled_by": part,
        "seconds": ours,
        "speedup": round(whole / ours, 1),
        "same_result": bool(close) and plain_tar == list(result["tar_at_nearest_far"].values()),
        "peak_gib": round(peak, 2),
        "images": images,
        "templates": templates,
        "pairs": pairs,
    }


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "accuracy_of_6000_pairs": accuracy_of_6000_pairs,
    "opening_a_million_embeddings": opening_a_million_embeddings,
    "ijb_of_published_size": ijb_of_published_size,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; default: all")
    chosen = parser.parse_args().cases or list(CASES)
    if unknown := [name for name in chosen if name not in CASES]:
        parser.error(f"unknown case {', '.join(unknown)}; allowed: {', '.join(CASES)}")
    print(json.dumps({"cores": os.cpu_count(), **{name: CASES[name]() for name in chosen}}, indent=2))


if __name__ == "__main__":
    main()
