"""The order of training images: a pure function of seed and position, so that a run can stop and go on anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from faceprint.errors import UserError


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


class IdentityOrder:
    """Index lists of `identities` x `images_per_identity` images each (P x K), for batches `first` .. `last` - 1.

    The identities go by in permutations of all of them, of which each batch takes the next P; what is left of one
    permutation when it has fewer than P is dropped, so that the P of a batch differ. Of each, K images are drawn
    without replacement; an identity with fewer than K repeats them as evenly as it can. `labels` (N,) is the identity
    of every image. Each batch is a function of `seed` and its number. Raises `UserError` for fewer than P identities.
    """

    def __init__(
        self,
        *,
        labels: NDArray[np.int64],
        identities: int,
        images_per_identity: int,
        seed: int,
        first: int,
        last: int,
    ) -> None:
        boundaries = np.flatnonzero(np.diff(np.sort(labels))) + 1
        self.images = np.split(np.argsort(labels, kind="stable"), boundaries)
        if identities > len(self.images):
            raise UserError(
                f"a batch of {identities} identities needs at least as many in the data, there are {len(self.images)};"
                " take a smaller batch_size or a larger sampler.images_per_identity"
            )
        self.identities = identities
        self.images_per_identity = images_per_identity
        self.seed = seed
        self.first = first
        self.last = last

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[int]]:
        return map(self.batch, range(self.first, self.last))

    def batch(self, number: int) -> list[int]:
        """The indices of batch `number` (from 0), an identity's images side by side."""
        turn, place = divmod(number, len(self.images) // self.identities)
        start = place * self.identities
        chosen = epoch_order(self.seed, turn, len(self.images))[start : start + self.identities]
        # Another counter than epoch_order's: the same key must not draw the same numbers again.
        random = np.random.Generator(np.random.Philox(key=[self.seed, number], counter=[0, 0, 0, 1]))
        drawn = [np.resize(random.permutation(self.images[who]), self.images_per_identity) for who in chosen]
        return np.concatenate(drawn).tolist()


class BalancedOrder:
    """Batches of `batch_size` indices, with rare identities more often: `first` .. `last` - 1 of this process.

    For every place of a batch an identity is drawn with probability in proportion to n^`power`, n the number of its
    images, and then one of its images, each independent of the others: power 1 draws every image alike, 0 every
    identity. `labels` (N,) is the identity of every image. Batches are blocks of one stream, of which the process
    numbered `rank` of `world` takes blocks rank, rank + world, …; each block is a function of `seed` and its number.
    """

    def __init__(
        self,
        *,
        labels: NDArray[np.int64],
        power: float,
        batch_size: int,
        seed: int,
        first: int,
        last: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.images = np.argsort(labels, kind="stable")
        _, self.starts, self.counts = np.unique(labels[self.images], return_index=True, return_counts=True)
        weights = self.counts.astype(np.float64) ** power
        self.bounds = np.cumsum(weights) / weights.sum()
        self.batch_size = batch_size
        self.seed = seed
        self.blocks = range(first * world + rank, last * world + rank, world)

    def __len__(self) -> int:
        return len(self.blocks)

    def __iter__(self) -> Iterator[list[int]]:
        return map(self.block, self.blocks)

    def block(self, number: int) -> list[int]:
        """The indices of block `number` (from 0)."""
        random = np.random.Generator(np.random.Philox(key=[self.seed, number], counter=[0, 0, 0, 2]))
        who = np.searchsorted(self.bounds[:-1], random.random(self.batch_size), side="right")
        return self.images[self.starts[who] + random.integers(self.counts[who])].tolist()
