"""The order of training images: a pure function of seed and position, so that a run can stop and go on anywhere.

The images of a training are one endless stream, cut into blocks of `batch_size`, which do not depend on the number of
processes: of `world` of them, the one numbered `rank` takes blocks rank, rank + world, rank + 2 world, … So a step of W
processes with A accumulated passes and one of a single process with W A passes see the same images, pass by pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from faceprint.errors import UserError

ROUNDS = 12
"""Of the permutation. With eight, sets of five images show a bias over 20,000 epochs; with twelve they do not."""

_AT_ONCE = 8192
"""Positions that are shuffled in one go: a few hundred at a time would cost ten times as much each."""


class Order(Protocol):
    """The images of every batch of one process, as indices into the source; all batches are of one size."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[int]]: ...


Draw = Callable[[int, int, NDArray[np.int64]], NDArray[np.int64]]
"""(seed, epoch, positions (P,) in the epoch) -> the images that stand there, (P,)."""


def shuffled(seed: int, epoch: int, count: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which of `count` images stand at `positions` (P,) of epoch `epoch` (from 0): int64 (P,), each in 0 .. count - 1.

    For every (seed, epoch) a permutation, computed where it is asked for: an epoch of any size takes no memory.
    It is a generalised Feistel network (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002) on
    pairs (left, right) of Z_a x Z_b with a b >= count; what falls outside 0 .. count - 1 walks on until it is inside.
    """
    a = math.isqrt(count - 1) + 1
    b = -(-count // a)
    keys = np.random.Generator(np.random.Philox(key=[seed, epoch])).integers(0, 2**64, ROUNDS, dtype=np.uint64)
    values = positions.astype(np.uint64)
    outside = np.arange(len(values))
    while len(outside):
        values[outside] = _network(values[outside], np.uint64(a), np.uint64(b), keys)
        outside = outside[values[outside] >= count]
    return values.astype(np.int64)


def _network(values: NDArray[np.uint64], a: np.uint64, b: np.uint64, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    left, right = values // b, values % b
    for first, second in keys.reshape(-1, 2):
        left = (left + _mix(right, first) % a) % a
        right = (right + _mix(left, second) % b) % b
    return left * b + right


def _mix(values: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
    """A keyed hash of 64-bit words: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    words = (values + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) ^ key
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def blocks_of(first: int, last: int, rank: int, world: int) -> range:
    """The numbers of the stream's blocks that are batches `first` .. `last` - 1 of process `rank` of `world`."""
    return range(first * world + rank, last * world + rank, world)


@dataclass(frozen=True)
class Groups:
    """The images of each label that has any: of the g-th such label `images[edges[g] : edges[g + 1]]`.

    Two flat arrays, (N,) and (G + 1,), not a list of arrays: two million identities would be as many objects.
    """

    images: NDArray[np.integer]
    edges: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.edges) - 1


def grouped(labels: NDArray[np.integer]) -> Groups:
    """The images of each label, by `labels` (N,), in order."""
    counts = np.bincount(labels)
    images = np.argsort(labels, kind="stable").astype(np.uint32 if len(labels) < 2**32 else np.int64)
    return Groups(images, np.append(0, np.cumsum(counts[counts > 0])))


class BatchOrder:
    """All images in random order: batches `first` .. `last` - 1 of this process, `batch_size` indices each.

    The stream is epoch 0's permutation, then epoch 1's, and so on; a batch may straddle two. Nothing is dropped, so
    every image is seen once an epoch, and sets smaller than a batch work. `draw(seed, epoch, positions)` gives other
    epochs, of `num_images` images each, than such permutations.
    """

    def __init__(
        self,
        *,
        num_images: int,
        batch_size: int,
        seed: int,
        first: int,
        last: int,
        rank: int = 0,
        world: int = 1,
        draw: Draw | None = None,
    ) -> None:
        self.num_images = num_images
        self.draw: Draw = draw or (lambda seed, epoch, positions: shuffled(seed, epoch, num_images, positions))
        self.batch_size = batch_size
        self.seed = seed
        self.blocks = blocks_of(first, last, rank, world)

    def __len__(self) -> int:
        return len(self.blocks)

    def __iter__(self) -> Iterator[list[int]]:
        at_once = _AT_ONCE // self.batch_size + 1
        for first in range(0, len(self), at_once):
            yield from self._places(np.array(self.blocks[first : first + at_once])).tolist()

    def _places(self, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The indices of those blocks of the stream (numbered from 0): int64 (len(blocks), batch_size)."""
        stream = blocks[:, None] * self.batch_size + np.arange(self.batch_size)
        epochs, indices = np.divmod(stream, self.num_images)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            indices[chosen] = self.draw(self.seed, epoch, indices[chosen])
        return indices


class IdentityOrder:
    """Batches of `identities` x `images_per_identity` indices (P x K): `first` .. `last` - 1 of this process.

    The identities go by in permutations of all of them, of which each block takes the next P; what is left of one
    permutation when it has fewer than P is dropped, so that the P of a block differ. Of each, K images are drawn
    without replacement; an identity with fewer than K repeats them as evenly as it can. `labels` (N,) is the identity
    of every image. Each block is a function of `seed` and its number. Raises `UserError` for fewer than P identities.
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
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.people = grouped(labels)
        if identities > len(self.people):
            raise UserError(
                f"a batch of {identities} identities needs at least as many in the data, there are {len(self.people)};"
                " take a smaller batch_size or a larger sampler.images_per_identity"
            )
        self.identities = identities
        self.images_per_identity = images_per_identity
        self.seed = seed
        self.blocks = blocks_of(first, last, rank, world)

    def __len__(self) -> int:
        return len(self.blocks)

    def __iter__(self) -> Iterator[list[int]]:
        return map(self.block, self.blocks)

    def block(self, number: int) -> list[int]:
        """The indices of block `number` (from 0), an identity's images side by side."""
        turn, place = divmod(number, len(self.people) // self.identities)
        places = np.arange(self.identities) + place * self.identities
        # Another counter than the permutation's: the same key must not draw the same numbers again.
        random = np.random.Generator(np.random.Philox(key=[self.seed, number], counter=[0, 0, 0, 1]))
        drawn = [self._draw(int(who), random) for who in shuffled(self.seed, turn, len(self.people), places)]
        return np.concatenate(drawn).tolist()

    def _draw(self, who: int, random: np.random.Generator) -> NDArray[np.integer]:
        images = self.people.images[self.people.edges[who] : self.people.edges[who + 1]]
        return np.resize(random.permutation(images), self.images_per_identity)


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
        self.people = grouped(labels)
        self.counts = np.diff(self.people.edges)
        weights = self.counts.astype(np.float64) ** power
        self.bounds = np.cumsum(weights) / weights.sum()
        self.batch_size = batch_size
        self.seed = seed
        self.blocks = blocks_of(first, last, rank, world)

    def __len__(self) -> int:
        return len(self.blocks)

    def __iter__(self) -> Iterator[list[int]]:
        return map(self.block, self.blocks)

    def block(self, number: int) -> list[int]:
        """The indices of block `number` (from 0)."""
        random = np.random.Generator(np.random.Philox(key=[self.seed, number], counter=[0, 0, 0, 2]))
        who = np.searchsorted(self.bounds[:-1], random.random(self.batch_size), side="right")
        return self.people.images[self.people.edges[who] + random.integers(self.counts[who])].tolist()
