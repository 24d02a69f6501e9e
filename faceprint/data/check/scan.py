"""One pass over a set: what is to be known of each image, in 43 bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from faceprint.data.check import crops
from faceprint.data.check.damage import jpeg_damage, sees_damage
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
    """`facts` (N,) of `FACTS`; `decoded` says whether pixels were looked at. (index, reason) of images:

    `unreadable` are those that cannot be decoded; `damaged` those that can, with a guess at what is broken in them,
    None where nothing could say so (`damage.sees_damage`).
    """

    facts: NDArray[Any]
    unreadable: list[tuple[int, str]]
    damaged: list[tuple[int, str]] | None
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
    damaged: list[tuple[int, str]] = []
    strict = decode and sees_damage()
    batches = [range(start, min(start + _BATCH, total)) for start in range(0, total, _BATCH)]
    found = Processes(workers).map_batches(_Look(source, decode, strict), batches)
    for batch, look in zip(batches, found, strict=True):
        facts[batch.start : batch.stop] = look.facts
        unreadable += look.unreadable
        damaged += look.damaged or []
        if progress:
            progress(batch.stop, total)
    return Scan(facts, unreadable, damaged if strict else None, decode)


@dataclass(frozen=True)
class _Look:
    """What a process does with a range of images."""

    source: Source
    decode: bool
    strict: bool

    def __call__(self, indices: range) -> Scan:
        rows = np.zeros(len(indices), FACTS)
        unreadable: list[tuple[int, str]] = []
        damaged: list[tuple[int, str]] = []
        for row, index in zip(rows, indices, strict=True):
            try:
                data = self._look(row, index)
            except ImageError as error:
                unreadable.append((index, str(error)))
                continue
            if self.strict and (damage := jpeg_damage(data)):
                damaged.append((index, damage))
        return Scan(rows, unreadable, damaged, self.decode)

    def _look(self, row: Any, index: int) -> bytes:
        """Fill in the row of image `index`; its bytes."""
        data, name = self.source.encoded(index), self.source.name(index)
        row["content"], row["bytes"] = content_hash(data), min(len(data), 2**32 - 1)
        row["encoding"] = next((kind for magic, kind in _MAGIC if data.startswith(magic)), len(ENCODINGS) - 1)
        row["width"], row["height"] = check_encoded(data, name=name) or (0, 0)
        if self.decode:
            _look_at_pixels(row, data, name)
        row["readable"] = True
        return data


def _look_at_pixels(row: Any, data: bytes, name: str) -> None:
    image = decode_image(data, name=name)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    row["height"], row["width"] = grey.shape
    row["look"], row["detail"] = looks(grey)
    row["blank"] = float(grey.std()) < _BLANK
    row["grey"], row["redness"] = crops.is_grey(image), crops.redness(image)
    row["alignment"] = crops.alignment_score(grey)
    row["decoded"] = True
