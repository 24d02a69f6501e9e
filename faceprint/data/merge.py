"""Several labelled sets as one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from faceprint.data.images import Image
from faceprint.data.source import Source
from faceprint.errors import UserError
from faceprint.registry import unknown


class Merged:
    """The images of all `sources`, one after the other; a `Source`.

    `classes="separate"`: every identity of every set is a person of its own, also where two sets use one name.
    `classes="by-name"`: identities of one name are one person; names keep the order in which they first come.
    """

    def __init__(self, sources: Sequence[Source], classes: str) -> None:
        if classes not in ("separate", "by-name"):
            raise unknown("way to merge classes", classes, ["separate", "by-name"])
        if not sources:
            raise UserError("there is no set to merge; give one or more")
        self._sources = sources
        self._ends: NDArray[np.int64] = np.cumsum([len(source) for source in sources])
        names = [*chain.from_iterable(source.class_names for source in sources)]
        self.class_names: Sequence[str] = names if classes == "separate" else [*dict.fromkeys(names)]
        numbers = {name: label for label, name in enumerate(self.class_names)}
        places = np.arange(len(names)) if classes == "separate" else np.array([numbers[name] for name in names])
        starts = np.cumsum([0, *(len(source.class_names) for source in sources)])
        labels = [places[source.labels + start] for source, start in zip(sources, starts, strict=False)]
        self.labels: NDArray[np.int64] = np.concatenate(labels).astype(np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        source, within = self._place(index)
        return source[within][0], int(self.labels[index])

    def encoded(self, index: int) -> bytes:
        source, within = self._place(index)
        return source.encoded(within)

    def stored_path(self, index: int) -> str:
        source, within = self._place(index)
        return source.stored_path(within)

    def name(self, index: int) -> str:
        source, within = self._place(index)
        return source.name(within)

    def _place(self, index: int) -> tuple[Source, int]:
        position = range(len(self))[index]
        number = int(np.searchsorted(self._ends, position, side="right"))
        return self._sources[number], position - int(self._ends[number]) + len(self._sources[number])
