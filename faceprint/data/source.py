"""What every data source offers, so that training and evaluation need not know where images come from."""

from __future__ import annotations

from collections.abc import Sequence
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

    def name(self, index: int) -> str:
        """What to call image `index` in messages: a path, or an identity and a number."""
        ...
