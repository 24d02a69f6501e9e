"""What scoring costs: each case the plain way and ours, in one run, on the same numbers.

    python benchmarks/evaluation.py [CASE …]

Prints JSON: the median seconds of both, their ratio, and whether the results are the same. A case is a function of
`CASES` without arguments that returns `compare(…)`, or any other plain values; without names all cases run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from faceprint.evaluation import metrics
from faceprint.evaluation.embedding_set import EmbeddingSet, open_embeddings
from faceprint.evaluation.ijb import FARS, tar_by_both_rules
from faceprint.evaluation.megaface_counts import count_megaface
from faceprint.evaluation.mfr import all_to_all
from faceprint.evaluation.products import Products
from faceprint.evaluation.templates import image_weights, pool_templates, template_scores

REPEATS = 5
MFR_ALL = 1_624_305
"""Images of MFR-ALL (InsightFace, challenges/mfr)."""


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


def once(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def products_alone(queries: NDArray[np.float32], gallery: NDArray[np.float32], *, triangle: bool = False) -> float:
    """Seconds of the same products of the same tiles, and of nothing else."""
    compared = Products(queries, gallery, device="cpu")
    pairs = [
        (compared.queries[rows], compared.gallery[columns]) for rows, columns in compared.blocks(triangle=triangle)
    ]
    memory = torch.empty(max(len(left) * len(right) for left, right in pairs))
    started = time.perf_counter()
    for left, right in pairs:
        torch.matmul(left, right.T, out=memory[: len(left) * len(right)].view(len(left), len(right)))
    return time.perf_counter() - started


def faces(identity: NDArray[np.int64], noise: float = 1.0, dimension: int = 512) -> NDArray[np.float32]:
    """Unit vectors, two of one person at a cosine of about 1 / (1 + noise^2); made in blocks."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((int(identity.max()) + 1, dimension), np.float32)
    vectors = np.empty((len(identity), dimension), np.float32)
    for start in range(0, len(identity), 1 << 14):
        block = centres[identity[start : start + (1 << 14)]]
        block += noise * random.standard_normal(block.shape, np.float32)
        vectors[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return vectors


def megaface(num_distractors: int = 1_000_000) -> dict[str, Any]:
    """FaceScrub's 3,530 probes of 80 people, 25 of them noises, with a million distractors of 512 dimensions."""
    identity = np.sort(np.arange(3530) % 80)
    probes = faces(identity)
    probes[:: len(probes) // 25] = faces(np.arange(len(probes[:: len(probes) // 25])), 0.1)
    distractors = faces(np.arange(num_distractors) % 50_000 + 1, 30.0)  # nearly independent of each other
    before = products_alone(probes, distractors)
    ours, counts = once(lambda: count_megaface(probes, identity, distractors, device="cpu"))
    after = products_alone(probes, distractors)
    return {
        "num_distractors": num_distractors,
        "product_seconds": [before, after],
        "seconds": ours,
        "ratio": round(2 * ours / (before + after), 3),
        "rank_1": counts.rank_k(1),
        "num_searches": len(counts.ranks),
    }


def mfr_all_to_all() -> dict[str, Any]:
    """All images with all, at FAR 1e-6: brute force at 5,000; time and memory at 25,000, 50,000 and 100,000."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:  # a process each: its peak of memory is its own
        sizes = pool.map(mfr_of_size, (25_000, 50_000, 100_000), chunksize=1)
    last = sizes[-1]
    return {
        "equal_to_brute_force_at_5000": mfr_equals_brute_force(5000),
        "sizes": sizes,
        "time_grows_as_n_to_the": round(float(np.log2(last["seconds"] / sizes[0]["seconds"]) / 2), 2),
        "projected_seconds_of_mfr_all": round(last["seconds"] * (MFR_ALL / last["images"]) ** 2),
    }


def mfr_of_size(images: int) -> dict[str, Any]:
    """Time, beside that of the products alone, and peak memory beyond that of an empty process."""
    empty = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    identity = np.arange(images) // 7
    vectors = faces(identity)
    before = products_alone(vectors, vectors, triangle=True)
    ours, result = once(lambda: all_to_all(vectors, identity, 1e-6, device="cpu"))
    after = products_alone(vectors, vectors, triangle=True)
    return {
        "images": images,
        "product_seconds": [before, after],
        "seconds": ours,
        "ratio": round(2 * ours / (before + after), 3),
        "peak_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - empty) // 1024,
        "features_mib": vectors.nbytes >> 20,
        "false_accepts": result["false_accepts"],
    }


def mfr_equals_brute_force(images: int) -> bool:
    """Threshold and TAR against those of all scores at once, in float64."""
    identity = np.arange(images) // 7
    vectors = faces(identity, 4.0)
    scores = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    first, second = np.triu_indices(images, 1)
    plain = metrics.tar_at_far(scores[first, second], identity[first] == identity[second], 1e-6)
    ours = all_to_all(vectors, identity, 1e-6, device="cpu")
    close = abs(ours["threshold"] - plain.threshold) < 1e-13
    return bool(close and (ours["tar"], ours["false_accepts"]) == (plain.tar, plain.false_accepts))


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

    false_accepts, true_accepts, _ = roc_curve(same, scores)
    far, tar = np.asarray(false_accepts)[::-1], np.asarray(true_accepts)[::-1]
    return [float(tar[np.argmin(np.abs(far - float(wanted)))]) for wanted in FARS]


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
    "megaface": megaface,
    "mfr_all_to_all": mfr_all_to_all,
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
