"""What every data source offers, so that training and evaluation need not know where images come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from faceprint.data.images import Image


class Source(Protocol):
    """A labelled set of images with random access. Instances are picklable and safe in data workers.

    `class_names[label]` names an identity; labels are 0 .. len(class_names) - 1 without gaps, derived from the
    data. `labels[i]` is known without reading image `i`.
    """

    @property
    def class_names(self) -> Sequence[str]: ...

    @property
    def labels(self) -> NDArray[np.int64]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Image, int]:
        """The image, uint8 (H, W, 3) RGB, and its label. Raises `ImageError` where it cannot be read."""
        ...

    def encoded(self, index: int) -> bytes:
        """Image `index` as it is stored, JPEG, PNG or whatever it came in: what conversions copy without decoding.

        A source that stores nothing encodes as PNG. Several threads may call it at once. Raises `ImageError` where it
        cannot be read.
        """
        ...

    def stored_path(self, index: int) -> str:
        """The path of image `index` within the set, with forward slashes, which conversions keep; "" where the set
        keeps none. As it was found: it may be absolute, or lead anywhere."""
        ...

    def name(self, index: int) -> str:
        """What to call image `index` in messages: a path, or an identity and a number."""
        ...


class ImageName:
    """The name of image `index` of `source`, which is made only where a message shows it: most are never seen."""

    __slots__ = ("index", "source")

    def __init__(self, source: Source, index: int) -> None:
        self.source, self.index = source, index

    def __str__(self) -> str:
        return self.source.name(self.index)


@dataclass(frozen=True)
class Subset:
    """Images `indices` (N,) of another source, in that order; labels run without gaps over the `class_names` left."""

    source: Source
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    class_names: Sequence[str]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        return self.source[int(self.indices[index])][0], int(self.labels[index])

    def encoded(self, index: int) -> bytes:
        return self.source.encoded(int(self.indices[index]))

    def stored_path(self, index: int) -> str:
        return self.source.stored_path(int(self.indices[index]))

    def name(self, index: int) -> str:
        return self.source.name(int(self.indices[index]))


def keep_images(source: Source, indices: NDArray[np.int64]) -> Subset:
    """The images `indices` (N,) of `source`; identities of whom none is left go, the others keep their order."""
    labels = source.labels[indices]
    present = np.zeros(len(source.class_names), bool)
    present[labels] = True
    names: list[str] = [source.class_names[int(label)] for label in np.flatnonzero(present)]
    return Subset(source, indices, (np.cumsum(present) - 1)[labels], names)


def keep_identities(source: Source, keep: Callable[[str, int], bool]) -> Source:
    """The identities of `source` for which `keep(name, number of images)` holds, relabelled without gaps.

    `source` itself where that is all of them: lists of millions of images are not copied for nothing.
    """
    counts = np.bincount(source.labels, minlength=len(source.class_names))
    kept = [keep(name, int(count)) for name, count in zip(source.class_names, counts, strict=True)]
    if all(kept):
        return source
    return keep_images(source, np.flatnonzero(np.array(kept, bool)[source.labels]))
