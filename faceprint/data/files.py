"""Images in single files, whatever listed them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceprint.data.images import Image, read_encoded, read_image
from faceprint.errors import UserError

_MAX_DIGITS = 18


@dataclass(frozen=True)
class FileSource:
    """A `Source` of image files. `root / paths[i]` is image i; `labels` index `class_names` without gaps.

    `skipped` counts what was passed over when the files were listed.
    """

    root: Path
    paths: Sequence[str]
    labels: NDArray[np.int64]
    class_names: Sequence[str]
    skipped: Mapping[str, int] = field(default_factory=dict[str, int])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        return read_image(self.root / self.paths[index]), int(self.labels[index])

    def encoded(self, index: int) -> bytes:
        return read_encoded(self.root / self.paths[index])

    def stored_path(self, index: int) -> str:
        return self.paths[index].replace(os.sep, "/")

    def name(self, index: int) -> str:
        return str(self.root / self.paths[index])


def make_file_source(
    root: Path, paths: Sequence[str], identities: Sequence[str], skipped: Mapping[str, int] | None = None
) -> FileSource:
    """A source from parallel lists of paths (relative to `root`) and identity names; labels follow the sorted
    names, or their order as numbers where all are."""
    if not paths:
        raise UserError(f"{root}: no images found")
    names = set(identities)
    numbers = all(name.isdecimal() and len(name) <= _MAX_DIGITS for name in names)
    class_names = sorted(names, key=lambda name: (int(name) if numbers else 0, name))
    label_of = {name: label for label, name in enumerate(class_names)}
    labels = np.fromiter((label_of[name] for name in identities), np.int64, len(identities))
    return FileSource(root, paths, labels, class_names, skipped or {})
