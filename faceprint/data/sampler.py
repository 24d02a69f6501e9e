"""The order of training images: a pure function of seed and position, so that a run can stop and go on anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def epoch_order(seed: int, epoch: int, num_images: int) -> NDArray[np.int64]:
    """The permutation of 0 .. num_images - 1 that epoch `epoch` (from 0) goes through."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(num_images)


class BatchOrder:
    """Index lists of `batch_size` images each, for batches `first` .. `last` - 1 of an endless stream of epochs.

    The stream is epoch 0's permutation, then epoch 1's, and so on; a batch may straddle two. Nothing is dropped, so
    every image is seen once an epoch, and sets smaller than a batch work.
    """

    def __init__(self, *, num_images: int, batch_size: int, seed: int, first: int, last: int) -> None:
        self.num_images = num_images
        self.batch_size = batch_size
        self.seed = seed
        self.first = first
        self.last = last

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[int]]:
        epoch, offset = divmod(self.first * self.batch_size, self.num_images)
        order = epoch_order(self.seed, epoch, self.num_images)
        for _ in range(len(self)):
            batch: list[int] = []
            while len(batch) < self.batch_size:
                if offset == self.num_images:
                    epoch, offset = epoch + 1, 0
                    order = epoch_order(self.seed, epoch, self.num_images)
                taken = order[offset : offset + self.batch_size - len(batch)]
                batch.extend(taken.tolist())
                offset += len(taken)
            yield batch
