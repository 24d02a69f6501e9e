"""Fingerprints of images, and the images that share one: duplicates by the byte and by the look."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from itertools import combinations, pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Ints = NDArray[np.int64]

MAX_DISTANCE = 3
"""Bits in which the looks of one picture, encoded or resized anew, may differ.

Of 1,000 aligned LFW crops all are found again after JPEG at quality 50 or a trip through 80x80 pixels; of the 87.5
million pairs among all 13,233, nine are this near.
"""
MAX_DETAIL_DISTANCE = 10
"""The same for the second fingerprint, which keeps chance matches apart in sets of millions."""

_BLOCKS = (13, 13, 13, 13, 12)  # bits; two of the five are alike wherever at most three bits differ
_LONGEST_RUN = 256


def content_hash(data: bytes) -> int:
    """64 bits of BLAKE2b. Among 42 million files two share one by chance with a probability of 5e-5."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def looks(grey: NDArray[np.uint8]) -> tuple[int, int]:
    """Two 64-bit perceptual hashes of a grey image (H, W): signs of its DCT at 32x32 pixels.

    The first of coefficients 1 to 8 in both directions, the second of 1 to 8 down and 9 to 16 across: brightness
    and contrast do not change them. After Zauner, "Implementation and benchmarking of perceptual image hash
    functions", 2010, but with 0 in the place of the median, and without the lowest row and column, which
    hold the light and are nearly alike in all aligned faces.
    """
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    coefficients = cv2.dct(small).astype(np.float32, copy=False)
    return _word(coefficients[1:9, 1:9]), _word(coefficients[1:9, 9:17])


def _word(coefficients: NDArray[np.float32]) -> int:
    return int.from_bytes(np.packbits(coefficients > 0).tobytes(), "big")


def equal_groups(words: Words) -> list[Ints]:
    """Indices of the words that occur more than once, one array for each word, each in order."""
    order = np.argsort(words, kind="stable")
    edges = np.flatnonzero(np.diff(words[order]) != 0) + 1
    starts, ends = np.append(0, edges), np.append(edges, len(words))
    return [order[start:end] for start, end in zip(starts, ends, strict=True) if end - start > 1]


def similar_groups(look: Words, detail: Words) -> list[Ints]:
    """Groups of indices whose `look` (N,) differ in up to `MAX_DISTANCE` bits and `detail` (N,) in up to 10.

    By sorting, N log N in time and in proportion to N in memory: the 64 bits are five blocks, any two of which are
    a key under which near words meet (Manku, Jain and Das Sarma, "Detecting near-duplicates for web crawling", WWW
    2007). Groups join whatever a chain of near images connects. Under one key a word meets the next 256 only.
    """
    groups = _Groups()
    for mask in _masks():
        key = look & mask
        order = np.argsort(key)
        for a, b in _meetings(key[order], order):
            near = distance(look[a], look[b]) <= MAX_DISTANCE
            near[near] = distance(detail[a[near]], detail[b[near]]) <= MAX_DETAIL_DISTANCE
            groups.join(a[near].tolist(), b[near].tolist())
    return groups.members()


def distance(a: Words, b: Words) -> Ints:
    """Bits in which the words (N,) differ."""
    return np.unpackbits((a ^ b).view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1, dtype=np.int64)


def _masks() -> list[np.uint64]:
    edges = np.cumsum((0, *_BLOCKS)).tolist()
    blocks = [(1 << high) - (1 << low) for low, high in pairwise(edges)]
    return [np.uint64(sum(chosen)) for chosen in combinations(blocks, 2)]


def _meetings(keys: Words, order: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of indices whose sorted `keys` are equal, with growing distance in the sorted order."""
    left = np.arange(len(keys) - 1)
    for shift in range(1, _LONGEST_RUN + 1):
        left = left[left + shift < len(keys)]
        left = left[keys[left] == keys[left + shift]]
        if not len(left):
            return
        yield order[left], order[left + shift]


class _Groups:
    """Sets of indices that grow together (union-find)."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}

    def join(self, first: list[int], second: list[int]) -> None:
        for a, b in zip(first, second, strict=True):
            low, high = sorted((self._top(a), self._top(b)))
            self._above[high] = low

    def members(self) -> list[Ints]:
        groups: dict[int, list[int]] = {}
        for index in sorted(self._above):
            groups.setdefault(self._top(index), []).append(index)
        return [np.array(group, np.int64) for _, group in sorted(groups.items()) if len(group) > 1]

    def _top(self, index: int) -> int:
        self._above.setdefault(index, index)
        while (above := self._above[index]) != index:
            self._above[index] = self._above[above]  # halves the way for the next time
            index = above
        return index
