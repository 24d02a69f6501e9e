"""Who is in the images of a verification set: what statistics need that resample people."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from faceprint.evaluation.pairs import PairSet

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class People:
    """`number` (N,) of each image's person, 0 .. `count` - 1, and the `rule` that told them apart, in words."""

    number: Ints
    count: int
    rule: str


def people_of(pairs: PairSet) -> People:
    """The people of a verification set.

    Images that same pairs join, directly or by others, are one person. Where names tell people, images of one name
    are too: that of the folder, else NAME of NAME_0001.jpg. Names that would make one person of a different pair tell
    nothing and are left out; then a person whom no same pair joins counts as several.
    """
    joined = components(len(pairs.names), pairs.first[pairs.same], pairs.second[pairs.same])
    for rule, name_of in _NAMES.items():
        named = _joined_by_name(joined, [name_of(name) for name in pairs.names])
        clash = bool((named[pairs.first] == named[pairs.second])[~pairs.same].any())
        if not clash and named.max() < joined.max():
            return People(named, int(named.max()) + 1, f"images of one {rule}, or joined by same pairs")
    return People(joined, int(joined.max()) + 1, "images joined by same pairs")


def _folder(name: str) -> str:
    return PurePath(name).parent.name


def _stem(name: str) -> str:
    return re.sub(r"_[0-9]+(\.[A-Za-z]+)?$", "", PurePath(name).name)


_NAMES: dict[str, Callable[[str], str]] = {"folder": _folder, "name NAME_0001": _stem}


def _joined_by_name(joined: Ints, names: Sequence[str]) -> Ints:
    """`joined` (N,), with the images of equal names made one as well."""
    numbers = np.unique(np.array(names), return_inverse=True)[1].reshape(-1)
    first = np.unique(numbers, return_index=True)[1]
    representative = np.unique(joined, return_index=True)[1]
    images = np.arange(len(joined))
    return components(
        len(joined),
        np.concatenate([images, images]),
        np.concatenate([first[numbers], representative[joined]]),
    )


def components(count: int, first: Ints | NDArray[np.int32], second: Ints | NDArray[np.int32]) -> Ints:
    """The component of each of `count` nodes that edges `first`-`second` (E,) connect, from 0 in order, (count,)."""
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return np.unique([root(node) for node in range(count)], return_inverse=True)[1].reshape(-1).astype(np.int64)
