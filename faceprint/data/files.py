"""Images in single files, whatever listed them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceprint.data.images import Image, read_image
from faceprint.errors import UserError


@dataclass(frozen=True)
class FileSource:
    """A `Source` of image files. `root / paths[i]` is image i; `labels` index `class_names` without gaps."""

    root: Path
    paths: Sequence[str]
    labels: NDArray[np.int64]
    class_names: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        return read_image(self.root / self.paths[index]), int(self.labels[index])

    def name(self, index: int) -> str:
        return str(self.root / self.paths[index])

    def keep_identities(self, keep: Callable[[str, int], bool]) -> FileSource:
        """Only the identities for which `keep(name, number of images)` holds, relabelled without gaps."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        kept = np.array([keep(name, int(n)) for name, n in zip(self.class_names, counts, strict=True)], dtype=bool)
        chosen: list[int] = np.flatnonzero(kept[self.labels]).tolist()
        new_label = np.cumsum(kept) - 1
        return FileSource(
            root=self.root,
            paths=[self.paths[index] for index in chosen],
            labels=new_label[self.labels[chosen]],
            class_names=[name for name, wanted in zip(self.class_names, kept, strict=True) if wanted],
        )


def make_file_source(root: Path, paths: Sequence[str], identities: Sequence[str]) -> FileSource:
    """A source from parallel lists of paths (relative to `root`) and identity names; labels follow the sorted names."""
    if not paths:
        raise UserError(f"{root}: no images found")
    class_names = sorted(set(identities))
    label_of = {name: label for label, name in enumerate(class_names)}
    labels = np.fromiter((label_of[name] for name in identities), np.int64, len(identities))
    return FileSource(root, paths, labels, class_names)
