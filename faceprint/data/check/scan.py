"""One pass over a set: what is to be known of each image, in 43 bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from faceprint.data.check import crops
from faceprint.data.check.fingerprints import content_hash, looks
from faceprint.data.executors import Processes
from faceprint.data.images import ImageError, check_encoded, decode_image
from faceprint.data.source import Source

ENCODINGS = ("JPEG", "PNG", "BMP", "WebP", "other")
_MAGIC = ((b"\xff\xd8", 0), (b"\x89PNG", 1), (b"BM", 2), (b"RIFF", 3))

FACTS = np.dtype(
    [
        ("content", np.uint64),  # `content_hash` of its bytes
        ("look", np.uint64),  # `looks`
        ("detail", np.uint64),
        ("height", np.uint32),  # pixels; 0 where it is not known
        ("width", np.uint32),
        ("bytes", np.uint32),
        ("encoding", np.uint8),  # of `ENCODINGS`
        ("readable", np.bool_),
        ("decoded", np.bool_),
        ("grey", np.bool_),
        ("blank", np.bool_),  # one shade all over
        ("redness", np.float16),  # `crops.redness`
        ("alignment", np.float16),  # `crops.alignment_score`
    ]
)
_BATCH = 512
_BLANK = 2.0  # grey levels of standard deviation


@dataclass(frozen=True)
class Scan:
    """`facts` (N,) of `FACTS`; `unreadable` holds (index, reason); `decoded` says whether pixels were looked at."""

    facts: NDArray[Any]
    unreadable: list[tuple[int, str]]
    decoded: bool


def scan(
    source: Source,
    *,
    decode: bool = True,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Scan:
    """Read every image of `source` once. Without `decode` only bytes and headers are looked at.

    Memory is in proportion to `FACTS`. `progress` gets (images done, images in all). With `workers` above 1 processes
    are spawned. Raises `WorkerDied` where one is lost.
    """
    total = len(source)
    facts = np.zeros(total, FACTS)
    unreadable: list[tuple[int, str]] = []
    batches = [range(start, min(start + _BATCH, total)) for start in range(0, total, _BATCH)]
    found = Processes(workers).map_batches(_Look(source, decode), batches)
    for batch, (rows, problems) in zip(batches, found, strict=True):
        facts[batch.start : batch.stop] = rows
        unreadable += problems
        if progress:
            progress(batch.stop, total)
    return Scan(facts, unreadable, decode)


@dataclass(frozen=True)
class _Look:
    """What a process does with a range of images."""

    source: Source
    decode: bool

    def __call__(self, indices: range) -> tuple[NDArray[Any], list[tuple[int, str]]]:
        rows = np.zeros(len(indices), FACTS)
        problems: list[tuple[int, str]] = []
        for row, index in zip(rows, indices, strict=True):
            try:
                self._look(row, index)
            except ImageError as error:
                problems.append((index, str(error)))
        return rows, problems

    def _look(self, row: Any, index: int) -> None:
        data, name = self.source.encoded(index), self.source.name(index)
        row["content"], row["bytes"] = content_hash(data), min(len(data), 2**32 - 1)
        row["encoding"] = next((kind for magic, kind in _MAGIC if data.startswith(magic)), len(ENCODINGS) - 1)
        row["width"], row["height"] = check_encoded(data, name=name) or (0, 0)
        if self.decode:
            _look_at_pixels(row, data, name)
        row["readable"] = True


def _look_at_pixels(row: Any, data: bytes, name: str) -> None:
    image = decode_image(data, name=name)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    row["height"], row["width"] = grey.shape
    row["look"], row["detail"] = looks(grey)
    row["blank"] = float(grey.std()) < _BLANK
    row["grey"], row["redness"] = crops.is_grey(image), crops.redness(image)
    row["alignment"] = crops.alignment_score(grey)
    row["decoded"] = True
