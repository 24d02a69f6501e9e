"""Verification pairs that a network finds hard: strangers who look alike, people who do not look like themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from faceprint.data.draw_pairs import DrawnPairs, draw_same, fold_groups, join_blocks, pairs_per_fold
from faceprint.data.make_pairs import choose_candidates
from faceprint.data.pair_lists import NUM_FOLDS
from faceprint.data.source import Source
from faceprint.errors import UserError
from faceprint.evaluation.embeddings import Embeds
from faceprint.evaluation.source_embeddings import SourceEmbeddings, embed_source
from faceprint.inference.neighbours import nearest

Ints = NDArray[np.int64]


def hard_pairs(
    embedder: Embeds,
    source: Source,
    num_pairs: int,
    *,
    folds: int = NUM_FOLDS,
    seed: int = 0,
    max_images: int = 20,
    batch_size: int = 64,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> DrawnPairs:
    """As `random_pairs`, but in each fold the pairs of one identity with the lowest cosine, of two with the highest.

    The hardest of all are wrong labels where the set has any: clean it first. Raises `UserError` where a fold has not
    as many pairs, and as `embed_source` does.
    """
    random = np.random.default_rng(seed)
    candidates = choose_candidates(source, random, max_images)
    groups = fold_groups(len(candidates.counts), num_pairs, order=candidates.order, folds=folds)
    embedded = embed_source(embedder, source, candidates.images, batch_size=batch_size, progress=progress)
    blocks: list[Ints] = []
    for group, (num_same, num_different) in zip(groups, pairs_per_fold(num_pairs, len(groups)), strict=True):
        rows = np.flatnonzero(np.isin(embedded.labels, group))
        blocks.append(_hardest_same(embedded, rows, num_same, random))
        blocks.append(_hardest_different(embedded, rows, num_different, device))
    return join_blocks([embedded.indices[block] for block in blocks])


def _hardest_same(embedded: SourceEmbeddings, rows: Ints, count: int, random: np.random.Generator) -> Ints:
    """The `count` pairs of `rows` of one label with the lowest cosine; labels stand together."""
    counts = np.unique(embedded.labels[rows], return_counts=True)[1]
    available = int((counts * (counts - 1) // 2).sum())
    places = draw_same(random, np.cumsum(counts) - counts, counts, available)
    pairs = rows[places]
    cosine = np.einsum("pd,pd->p", embedded.vectors[pairs[:, 0]], embedded.vectors[pairs[:, 1]])
    return _first(pairs, np.argsort(cosine, kind="stable"), count, "one person")


def _hardest_different(embedded: SourceEmbeddings, rows: Ints, count: int, device: str) -> Ints:
    """The `count` pairs of `rows` of two labels with the highest cosine."""
    vectors, labels = embedded.vectors[rows], embedded.labels[rows]
    k = min(len(rows), 2 * count // max(1, len(rows)) + 20)
    found = nearest(vectors, vectors, k, query_class=labels, gallery_class=labels, device=device)
    known = found.row >= 0
    a, b = np.repeat(np.arange(len(rows)), known.sum(axis=1)), found.row[known]
    both, first = np.unique(np.stack([np.minimum(a, b), np.maximum(a, b)], axis=1), axis=0, return_index=True)
    order = np.argsort(-found.cosine[known][first], kind="stable")
    return _first(rows[both], order, count, "two people")


def _first(pairs: Ints, order: Ints, count: int, kind: str) -> Ints:
    if count > len(pairs):
        raise UserError(
            f"a fold has only {len(pairs):,} pairs of {kind} to choose from, {count:,} are wanted; ask for fewer pairs"
            " or folds"
        )
    return pairs[order[:count]]
