"""Nearest neighbours by cosine, exact, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_QUERIES, _GALLERY = 2048, 16384  # rows of one product: 128 MiB of cosines
_EXCLUDED = -2.0


@dataclass(frozen=True, eq=False)
class Neighbours:
    """For each of Q queries the K nearest, nearest first: `cosine` (Q, K) float32 and `row` (Q, K) int64, of
    the gallery.

    Where there are fewer than K, cosine is below -1 and row -1.
    """

    cosine: Floats
    row: Ints


def nearest(
    queries: Floats,
    gallery: Floats,
    k: int,
    *,
    query_class: Ints | None = None,
    gallery_class: Ints | None = None,
    device: str = "auto",
) -> Neighbours:
    """The K rows of `gallery` (G, D) nearest to each of `queries` (Q, D), all of length 1.

    With classes given, those of a query's own class do not count. Products are made of 2,048 by 16,384 rows at a time
    on `device` (auto, cpu, cuda, mps), in float32.
    """
    import torch

    from faceprint.device import resolve_device

    where = resolve_device(device)
    cosine, index = np.full((len(queries), k), _EXCLUDED, np.float32), np.full((len(queries), k), -1, np.int64)
    for start in range(0, len(gallery), _GALLERY):
        rows = slice(start, start + _GALLERY)
        columns = torch.from_numpy(np.ascontiguousarray(gallery[rows])).to(where)
        for first in range(0, len(queries), _QUERIES):
            part = slice(first, first + _QUERIES)
            scores = torch.from_numpy(np.ascontiguousarray(queries[part])).to(where) @ columns.T
            if query_class is not None and gallery_class is not None:
                own = query_class[part, None] == gallery_class[None, rows]
                scores[torch.from_numpy(own).to(where)] = _EXCLUDED
            best = scores.topk(min(k, scores.shape[1]))
            _merge(cosine[part], index[part], best.values.cpu().numpy(), best.indices.cpu().numpy() + start)
    return Neighbours(cosine, index)


def _merge(cosine: Floats, index: Ints, new_cosine: Floats, new_index: Ints) -> None:
    """Keep the best of those so far and the new ones, in place."""
    both = np.concatenate([cosine, new_cosine], axis=1)
    where = np.concatenate([index, np.where(new_cosine > _EXCLUDED, new_index, -1)], axis=1)
    best = np.argsort(-both, axis=1, kind="stable")[:, : cosine.shape[1]]
    cosine[:], index[:] = np.take_along_axis(both, best, 1), np.take_along_axis(where, best, 1)
