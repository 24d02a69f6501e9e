"""Several labelled sets as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from faceprint.data.images import Image
from faceprint.data.sampler import shuffled
from faceprint.data.source import Source


@dataclass(frozen=True)
class MixedSource:
    """The images of `parts`, one set after the other. `labels` are those of the whole.

    In an epoch `images_per_epoch[p]` images of part p are drawn; see `draw`.
    """

    parts: Sequence[Source]
    labels: NDArray[np.int64]
    class_names: Sequence[str]
    images_per_epoch: Sequence[int]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        part, place = self._place(index)
        return part[place][0], int(self.labels[index])

    def encoded(self, index: int) -> bytes:
        part, place = self._place(index)
        return part.encoded(place)

    def stored_path(self, index: int) -> str:
        part, place = self._place(index)
        return part.stored_path(place)

    def name(self, index: int) -> str:
        part, place = self._place(index)
        return part.name(place)

    def draw(self, seed: int, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The images at `positions` (P,) of an epoch, each in 0 .. sum(images_per_epoch) - 1: a function of these.

        Each part is an endless stream of its images, shuffled anew each time through, of which an epoch takes the next
        `images_per_epoch[p]`. So twice as many as it has are each of them twice, and half as many are one half in one
        epoch and the other half in the next.
        """
        ends = np.cumsum(self.images_per_epoch)
        slots = shuffled(seed, epoch, int(ends[-1]), positions)
        which = np.searchsorted(ends, slots, side="right")
        drawn = np.empty(len(positions), np.int64)
        first = 0
        for number, (part, count) in enumerate(zip(self.parts, self.images_per_epoch, strict=True)):
            mine = which == number
            stream = slots[mine] - (ends[number] - count) + epoch * count
            drawn[mine] = first + _from_stream(seed, number, len(part), stream)
            first += len(part)
        return drawn

    def _place(self, index: int) -> tuple[Source, int]:
        index = range(len(self))[index]
        for part in self.parts:
            if index < len(part):
                return part, index
            index -= len(part)
        raise AssertionError


def _from_stream(seed: int, number: int, count: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of an endless stream of the `count` images of part `number`, those at `positions`."""
    turns, places = np.divmod(positions, count)
    drawn = np.empty(len(positions), np.int64)
    for turn in np.unique(turns):
        # Epochs, which shuffle the slots, stay below 2^40, and so do turns.
        key = ((number + 1) << 40) + int(turn)
        drawn[turns == turn] = shuffled(seed, key, count, places[turns == turn])
    return drawn


def mix(
    parts: Sequence[Source],
    *,
    by_name: bool,
    names: Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
) -> MixedSource:
    """One source of `parts`, which are drawn `weights` times an epoch (None: once).

    Classes are those of one part after those of the other, also where two have one name; with `names` for the parts
    they are called `PART/PERSON`. Or, `by_name`, people of one name are one class, in the order in which they first
    come.
    """
    called = [person for part in parts for person in part.class_names]
    places = np.arange(len(called))
    if by_name:
        label_of = {person: label for label, person in enumerate(dict.fromkeys(called))}
        places, called = np.array([label_of[person] for person in called], np.int64), list(label_of)
    elif names is not None:
        called = [f"{name}/{person}" for name, part in zip(names, parts, strict=True) for person in part.class_names]
    starts = accumulate((len(part.class_names) for part in parts), initial=0)
    return MixedSource(
        parts=parts,
        labels=np.concatenate([places[part.labels + start] for start, part in zip(starts, parts, strict=False)]),
        class_names=called,
        images_per_epoch=[
            max(1, round(weight * len(part))) for weight, part in zip(weights or [1.0] * len(parts), parts, strict=True)
        ],
    )
