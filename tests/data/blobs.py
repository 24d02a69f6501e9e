"""A source of bytes that no one decodes: thousands of images in no time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from faceprint.data.images import Image, ImageError


@dataclass(frozen=True)
class Blobs:
    """Image `i` is a few bytes that depend on `i` alone; `broken` cannot be read."""

    labels: NDArray[np.int64]
    class_names: Sequence[str]
    paths: Sequence[str] = ()
    broken: frozenset[int] = field(default_factory=frozenset)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        raise AssertionError("what only copies images decodes none")

    def encoded(self, index: int) -> bytes:
        if index in self.broken:
            raise ImageError(f"{self.name(index)}: cannot be read")
        return np.random.default_rng(index).bytes(1 + index * 37 % 300)

    def stored_path(self, index: int) -> str:
        return self.paths[index] if self.paths else ""

    def name(self, index: int) -> str:
        return f"blob {index}"


def blobs(count: int, *, grouped: bool = True, broken: tuple[int, ...] = ()) -> Blobs:
    """`count` images of ten identities, in a row or mixed."""
    labels = np.arange(count) * 10 // count if grouped else np.arange(count) * 7 % 10
    return Blobs(labels.astype(np.int64), [f"Person {number}" for number in range(10)], (), frozenset(broken))
