"""Inner products of very many rows, in tiles: what exact search and exact thresholds are counted from.

Tiles are computed in float32 (on CUDA devices too: no TF32). A product of D terms is then off by at most
`Products.error` = (D + 8) 2^-24 m, where m bounds the sum of |x_i y_i|; whatever is nearer than that to a score that it
is compared with is computed again in float64 (products of float32 numbers are exact there). Scores nearer than `TIE`
times m are equal: that much the order of a sum in float64 can change.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceprint.device import resolve_device
from faceprint.errors import UserError
from faceprint.evaluation.ranks import current_world

Rows = NDArray[np.float32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Progress = Callable[[int, int], None]
Chosen = Callable[[Tensor, Tensor], Tensor]
"""Numbers of queries (P,) and of gallery rows (P,) -> which of these pairs count, (P,) bool."""

TIE = 1e-13
_TILE = {"cpu": (1024, 32768)}
_LARGE_TILE = (8192, 16384)
_PART = 1 << 22
_GATHERED = {"cpu": 1 << 8}  # pairs of vectors at once: what fits a core's cache
_MANY_GATHERED = 1 << 16
_DENSE = 32


@dataclass(frozen=True, eq=False)
class Tile:
    """`scores` (R, C) float32 of queries `row`… with gallery rows `column`…, and `peaks` (R,), each row's largest."""

    row: int
    column: int
    scores: Tensor
    peaks: Tensor


class Products:
    """The inner products of `queries` (Q, D) with `gallery` (G, D), both float32, on `device` (auto, cpu, cuda, mps).

    `magnitude` bounds the sum of |x_i y_i| over D; None: the longest query times the longest gallery row. Both sets are
    held on the device; a tile beside them takes 128 MiB on a CPU, 512 MiB elsewhere.
    """

    def __init__(self, queries: Rows, gallery: Rows, *, device: str = "auto", magnitude: float | None = None) -> None:
        self.device = resolve_device(device)
        self.queries = torch.from_numpy(np.ascontiguousarray(queries, np.float32)).to(self.device)
        same = gallery is queries
        self.gallery = self.queries if same else _on(gallery, self.device)
        size = _longest(queries) * _longest(gallery) if magnitude is None else magnitude
        self.error = (queries.shape[1] + 8) * 2.0**-24 * size
        self.tie = TIE * size

    def blocks(self, *, triangle: bool = False) -> list[tuple[slice, slice]]:
        """Rows and columns of all tiles; with `triangle` those that have columns from the row's own number on.

        There a row block begins with a square: it holds the rows with themselves and, where people's images stand
        together, most same pairs, so that few rows of the wide tiles behind it have a high score.
        """
        height, width = _TILE.get(self.device.type, _LARGE_TILE)
        found: list[tuple[slice, slice]] = []
        for row in range(0, len(self.queries), height):
            rows = slice(row, min(row + height, len(self.queries)))
            edges = (
                [row, *range(rows.stop, len(self.gallery), width)] if triangle else range(0, len(self.gallery), width)
            )
            stops = [*edges[1:], len(self.gallery)]
            found += [(rows, slice(start, stop)) for start, stop in zip(edges, stops, strict=True)]
        return found

    def tiles(self, *, triangle: bool = False, progress: Progress | None = None) -> Iterator[Tile]:
        """This process's share of the tiles. The next one overwrites the scores of the last."""
        world = current_world()
        blocks = self.blocks(triangle=triangle)[world.rank() :: world.world_size()]
        memory = torch.empty(max((_area(*block) for block in blocks), default=0), device=self.device)
        with full_precision():
            for done, (rows, columns) in enumerate(blocks, 1):
                shape = (rows.stop - rows.start, columns.stop - columns.start)
                scores = memory[: shape[0] * shape[1]].view(shape)
                torch.matmul(self.queries[rows], self.gallery[columns].T, out=scores)
                yield Tile(rows.start, columns.start, scores, scores.amax(1))
                if progress:
                    progress(done, len(blocks))

    def exact(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """The scores in float64, (P,), of pairs of row numbers (P,)."""
        step = _GATHERED.get(self.device.type, _MANY_GATHERED)
        parts = [
            (self.queries[q].double() * self.gallery[g].double()).sum(1)
            for q, g in zip(queries.split(step), gallery.split(step), strict=True)
        ]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.float64, device=self.device)

    def exact_rows(self, queries: Tensor, columns: slice) -> Tensor:
        """The scores in float64, (R, C), of whole rows: for where there are too many to gather each pair's vectors."""
        return self.queries[queries].double() @ self.gallery[columns].double().T


class Largest:
    """The `count` largest of a stream of scores, exactly; in memory that grows with `count` alone.

    With `paired` each goes with the numbers of its query and its gallery row, 8 bytes more.

    A score that is not among the `count` largest of those seen can't be among the `count` largest of all: `floor`, the
    least of them, rises, and a score below it costs no more than its part in one maximum over a row.
    """

    def __init__(self, count: int, *, paired: bool = False) -> None:
        self.count = count
        self.floor = -np.inf
        self._columns = 2 if paired else 0
        self._kept: Floats = np.empty(0)
        self._pairs = np.empty((0, self._columns), np.int32)
        self._new: list[tuple[Floats, NDArray[np.int32]]] = []
        self._pending = 0

    def offer(self, products: Products, tile: Tile, chosen: Chosen) -> None:
        """Take those scores of a tile that count (`chosen`)."""
        step = max(1, _PART // tile.scores.shape[1])
        for start in range(0, len(tile.peaks), step):
            self._offer_part(products, tile, slice(start, start + step), chosen)

    def _offer_part(self, products: Products, tile: Tile, part: slice, chosen: Chosen) -> None:
        limit = self.floor - products.error
        high = (tile.peaks[part] > limit).nonzero().flatten() + part.start
        if not len(high):
            return
        scores = tile.scores[high]
        row, column = (scores > limit).nonzero().unbind(1)
        values = scores[row, column]
        wanted = chosen(tile.row + high[row], tile.column + column)
        wanted &= values >= self._cut(values[wanted], products.error)
        row, column = row[wanted], column[wanted]
        pairs = torch.stack([tile.row + high[row], tile.column + column], 1)[:, : self._columns]
        if len(row) * _DENSE > scores.numel():
            columns = slice(tile.column, tile.column + scores.shape[1])
            exact = products.exact_rows(tile.row + high, columns)[row, column]
        else:
            exact = products.exact(tile.row + high[row], tile.column + column)
        self._add(exact.cpu().numpy(), pairs.to(torch.int32).cpu().numpy())

    def _cut(self, values: Tensor, error: float) -> float:
        """With enough scores at hand the lowest that is needed: both it and the last of the largest may be off."""
        if len(values) <= self.count:
            return -np.inf
        return float(values.kthvalue(len(values) - self.count + 1).values) - 2 * error

    def _add(self, scores: Floats, pairs: NDArray[np.int32]) -> None:
        high = scores > self.floor
        self._new.append((scores[high], pairs[high]))
        self._pending += len(self._new[-1][0])
        # The floor is worth a partition of what is kept only when enough is new.
        if self._pending > max(4096, self.count // 4) or not np.isfinite(self.floor):
            self._compact()

    def _compact(self) -> None:
        parts = [(self._kept, self._pairs), *self._new]
        self._kept, self._pairs = (np.concatenate(part) for part in zip(*parts, strict=True))
        self._new, self._pending = [], 0
        if len(self._kept) >= self.count:
            places = np.argpartition(self._kept, len(self._kept) - self.count)[-self.count :]
            self._kept, self._pairs = self._kept[places], self._pairs[places]
            self.floor = float(self._kept.min())

    def of_all_processes(self) -> tuple[Floats, NDArray[np.int32]]:
        """The largest of what all processes were offered (N,), falling, and their pairs (N, 2), unless `paired` (N, 0).

        Every process must call it.
        """
        self._compact()
        gathered = current_world().gather_objects((self._kept, self._pairs))
        scores, pairs = (np.concatenate(part) for part in zip(*gathered, strict=True))
        falling = np.argsort(-scores, kind="stable")[: self.count]
        return scores[falling], pairs[falling]


def allowed_false_accepts(far: float, negatives: int) -> int:
    """K = floor(far negatives + 1e-9), the rule of `metrics.tar_at_far`. Raises `UserError` where K is too large.

    K scores are kept; 2^26 of them take 2 GiB with what comes in beside them.
    """
    if not 0 <= far < 1:
        raise UserError(f"far is {far}; it must be a fraction from 0 and below 1")
    allowed = int(np.floor(far * negatives + 1e-9))
    if allowed >= 1 << 26:
        raise UserError(
            f"far {far} of {negatives:,} pairs is {allowed:,} false accepts; at most {1 << 26:,} are counted"
        )
    return allowed


def unit_rows(vectors: NDArray[Any], names: Any) -> Rows:
    """`vectors` (N, D) with each row brought to length 1, as float32.

    Raises `UserError` for a row that is zero or not finite; `names[i]` stands in the message.
    """
    result = np.empty(vectors.shape, np.float32)
    for start in range(0, len(vectors), 1 << 16):
        block = vectors[start : start + (1 << 16)].astype(np.float64)
        lengths = np.linalg.norm(block, axis=1)
        bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
        if len(bad):
            raise UserError(
                f"the embedding of {names[start + int(bad[0])]} is zero or not finite; leave the image out of the list,"
                " or mend the network's weights or its input.mean and input.std"
            )
        result[start : start + len(block)] = block / lengths[:, None]
    return result


@contextmanager
def full_precision() -> Generator[None]:
    """Products of float32 matrices in float32, whatever the program chose for its training."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _on(rows: Rows, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows, np.float32)).to(device)


def _area(rows: slice, columns: slice) -> int:
    return (rows.stop - rows.start) * (columns.stop - columns.start)


def _longest(rows: Rows) -> float:
    squares = (float(np.einsum("nd,nd->n", block, block).max()) for block in _split(rows))
    return float(np.sqrt(max(squares, default=0.0))) * (1 + 1e-4)


def _split(rows: Rows) -> Iterator[Rows]:
    return (rows[start : start + (1 << 16)] for start in range(0, len(rows), 1 << 16))
