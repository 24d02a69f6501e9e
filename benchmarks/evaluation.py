"""What scoring costs: each case the plain way and ours, in one run, on the same numbers.

    python benchmarks/evaluation.py [CASE …]

Prints JSON: the median seconds of both, their ratio, and whether the results are the same. A case is a function of
`CASES` without arguments that returns `compare(…)`, or any other plain values; without names all cases run.
"""

from __future__ import annotations

import argparse
import json
import os
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


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "accuracy_of_6000_pairs": accuracy_of_6000_pairs,
    "opening_a_million_embeddings": opening_a_million_embeddings,
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
