"""One batch of photographs to crops: what a worker of `data align` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from faceprint.data.alignment import align
from faceprint.data.detection import Detector, Face, choose_face, refine
from faceprint.data.detectors import DetectorChoice
from faceprint.data.images import Image, ImageError
from faceprint.data.landmarks import Row, face_numbers
from faceprint.data.photographs import Photograph
from faceprint.files import write_whole
from faceprint.registry import Table

FORMATS: Table[tuple[int, ...]] = Table(
    "crop format",
    [
        # The published training sets are JPEG too. With the colours at full resolution and quality 95 a crop
        # takes 6.4 kB and differs from the lossless one by 1.3 of 255 (root mean square); a PNG takes 24 kB.
        (
            "jpg",
            (
                cv2.IMWRITE_JPEG_QUALITY,
                95,
                cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
                cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
            ),
        ),
        ("png", ()),
    ],
)
"""Name (and extension) of a crop's file format -> its parameters for `cv2.imencode`."""

_IMAGES_AT_ONCE = 8  # decoded photographs may be large


@dataclass(frozen=True, kw_only=True)
class CropJob:
    """What a worker needs to know: where photographs are read and crops written, and how.

    `size` is (height, width), `choose` a rule of `CHOOSERS`, `image_format` one of `FORMATS`.
    """

    read: Callable[[Photograph], Image]
    destination: Path
    detector: DetectorChoice
    size: tuple[int, int]
    choose: str
    image_format: str

    def crop(self, photograph: Photograph) -> str:
        """The path of its crop below the destination."""
        return f"{photograph.crop}.{self.image_format}"


@dataclass(frozen=True)
class Outcome:
    """What became of a photograph: the row of its crop, or why it could not be read, or neither: no face."""

    name: str
    row: Row | None = None
    reason: str | None = None


def crop_batch(job: CropJob, photographs: Sequence[Photograph]) -> list[Outcome]:
    """Crop one face of each; the outcomes in order. Raises `UserError` where a crop cannot be written."""
    detector = _make(job.detector)
    outcomes: list[Outcome] = []
    for at in range(0, len(photographs), _IMAGES_AT_ONCE):
        outcomes += _crop_some(job, detector, photographs[at : at + _IMAGES_AT_ONCE])
    return outcomes


@lru_cache(maxsize=1)
def _make(choice: DetectorChoice) -> Detector:
    return choice.make()


def _crop_some(job: CropJob, detector: Detector, photographs: Sequence[Photograph]) -> list[Outcome]:
    """Read them, find the faces in all that could be read at once, and crop; outcomes in order."""
    images: dict[int, Image] = {}
    outcomes: dict[int, Outcome] = {}
    for photograph in photographs:
        try:
            images[photograph.index] = job.read(photograph)
        except ImageError as error:
            outcomes[photograph.index] = Outcome(photograph.name, reason=str(error))
    readable = [photograph for photograph in photographs if photograph.index in images]
    found = detector.detect_batch(list(images.values()), [photograph.name for photograph in readable])
    for photograph, faces in zip(readable, found, strict=True):
        image = images[photograph.index]
        outcomes[photograph.index] = _crop(job, detector, photograph, image, faces)
    return [outcomes[photograph.index] for photograph in photographs]


def cut(
    detector: Detector, image: Image, faces: Sequence[Face], *, size: tuple[int, int], choose: str, close_up: bool
) -> tuple[Image, Face]:
    """One of the `faces` (at least one) that `detector` found in `image`, upright and to scale, and where it is.

    uint8 (height, width, 3) RGB of `size`; `choose` is a rule of `CHOOSERS`, `close_up` asks for `refine`.
    """
    face = choose_face(faces, image.shape[:2], choose)
    if close_up:
        face = refine(detector, image, face)
    return align(image, face.landmarks, size), face


def _crop(job: CropJob, detector: Detector, photograph: Photograph, image: Image, faces: Sequence[Face]) -> Outcome:
    if not faces:
        return Outcome(photograph.name)
    crop, face = cut(detector, image, faces, size=job.size, choose=job.choose, close_up=job.detector.refine)
    pixels = np.ascontiguousarray(crop[..., ::-1])
    _, encoded = cv2.imencode(f".{job.image_format}", pixels, FORMATS[job.image_format])
    write_whole(job.destination / job.crop(photograph), encoded.tobytes())
    return Outcome(photograph.name, row=(job.crop(photograph), photograph.name, face_numbers(face)))
