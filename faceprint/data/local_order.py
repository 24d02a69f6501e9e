"""A random order that keeps to a few shards or row groups at a time, for sets that are slow to read anywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from faceprint.data.parquet import ParquetSource
from faceprint.data.sampler import grouped, shuffled
from faceprint.data.shards import ShardSource
from faceprint.data.source import Source, Subset
from faceprint.errors import UserError


def storage_of(source: Source) -> NDArray[np.int32]:
    """The shard or row group of each image, (N,). Raises `UserError` for a source that has none."""
    if isinstance(source, Subset):
        return storage_of(source.source)[source.indices]
    if isinstance(source, ShardSource | ParquetSource):
        return source.storage
    raise UserError("sampler.window is for data.source=shards and data.source=parquet; leave it out")


class LocalDraw:
    """Shards in random order, `window` of them at a time, and the images of a window in random order.

    A permutation of all images for every (seed, epoch), and a function of these alone: any number of processes, and a
    resumed run, draw the same. `storage` (N,) says where each image lies.
    """

    def __init__(self, storage: NDArray[np.int32], window: int) -> None:
        self.window = window
        self.groups = grouped(storage)
        self.counts = np.diff(self.groups.edges)

    def __call__(self, seed: int, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The images at `positions` (P,) of epoch `epoch`."""
        order = shuffled(seed, epoch, len(self.counts), np.arange(len(self.counts)))
        ends = np.cumsum(self.counts[order])
        starts = ends - self.counts[order]
        windows = np.searchsorted(ends, positions, side="right") // self.window
        drawn = np.empty(len(positions), np.int64)
        for window in np.unique(windows):
            first = starts[window * self.window]
            last = ends[min((window + 1) * self.window, len(ends)) - 1]
            mine = windows == window
            # Windows are numbered beyond all epochs: the same key must not shuffle twice.
            key = ((epoch + 1) << 32) + int(window)
            places = first + shuffled(seed, key, int(last - first), positions[mine] - first)
            turns = np.searchsorted(ends, places, side="right")
            group = order[turns]
            drawn[mine] = self.groups.images[self.groups.edges[group] + places - starts[turns]]
        return drawn
