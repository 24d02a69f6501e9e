"""Faces and their five landmarks in a photograph: what a detector is, OpenCV's YuNet, and the choice of one face."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil, dist, floor
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from faceprint.data.images import Image
from faceprint.errors import UserError
from faceprint.registry import Table

LONGER_SIDES = (640, 320, 1280)
"""A photograph is searched at these scales (pixels of its longer side, never enlarged) until a face is found.

YuNet sees faces of about 10 to 450 pixels: at 640 that is nearly all of them, at 320 a face that fills the
picture, at 1280 the small ones. (Of LFW photographs enlarged to 2560 pixels it misses half without this.)
"""

_CLOSE_UP_FACE = 320  # pixels of the longer side of a face's box: of 110 to 490 the size it measures best
_CLOSE_UP_MARGIN = 1.3  # the close-up's side, in boxes
_MAX_ENLARGEMENT = 32.0  # there is nothing more to see in a smaller face
_MAX_MODEL_BYTES = 64 * 1024 * 1024
_SILENT = 0  # OpenCV's log level


@dataclass(frozen=True, kw_only=True, eq=False)
class Face:
    """One detected face, in pixels of the photograph it was found in.

    `box`: (x, y, width, height), x and y of its top left corner. `landmarks`: float64 (5, 2), (x, y) of left
    eye, right eye, nose, left and right mouth corner as seen in the image. `score`: 0 to 1, higher is surer.
    """

    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float64]
    score: float

    @property
    def area(self) -> float:
        return self.box[2] * self.box[3]

    @property
    def centre(self) -> tuple[float, float]:
        x, y, width, height = self.box
        return x + width / 2, y + height / 2


class Detector(Protocol):
    """Finds faces. Made where it is used: one a process, not for threads, and not picklable."""

    def detect_batch(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Face]]:
        """The faces of each uint8 (H, W, 3) RGB image, surest first; an empty list where there is none.

        `names` are the photographs', for detectors that look faces up instead of finding them.
        """
        ...


class YuNet:
    """A YuNet network (ONNX) in OpenCV's `FaceDetectorYN`. Neither picklable nor for threads: one a process.

    `score_threshold` in (0, 1]: less sure detections are dropped. Raises `UserError` for a file that cannot
    be read or is not a YuNet, and for a threshold outside its range.
    """

    def __init__(self, model_file: str | os.PathLike[str], score_threshold: float = 0.6) -> None:
        check_threshold(score_threshold)
        self._network = _load(Path(model_file), score_threshold)

    def detect(self, image: Image) -> list[Face]:
        """The faces in a uint8 (H, W, 3) RGB image, surest first; empty where there is none."""
        check_image(image)
        longest = max(image.shape[:2])
        for side in dict.fromkeys(min(side, longest) for side in LONGER_SIDES):
            faces = self._detect_at(image, side / longest)
            if faces:
                return faces
        return []

    def detect_batch(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Face]]:
        """As `Detector` has it, one image after the other: OpenCV's YuNet takes no batches."""
        return [self.detect(image) for image in images]

    def _detect_at(self, image: Image, scale: float) -> list[Face]:
        scaled, enlarge = resize(image, scale)
        self._network.setInputSize((scaled.shape[1], scaled.shape[0]))
        rows: Any = self._network.detect(np.ascontiguousarray(scaled[..., ::-1]))[1]  # YuNet takes BGR
        faces = [] if rows is None else [_enlarge(_face(row), enlarge) for row in np.asarray(rows, dtype=np.float64)]
        return sorted(faces, key=lambda face: -face.score)


def refine(detector: Detector, image: Image, face: Face) -> Face:
    """The `face` that `detector` found in `image`, its landmarks measured anew in a close-up.

    YuNet places landmarks well only in faces of some 300 pixels. Of photographs turned by 20 degrees, with faces of
    130 pixels (LFW), its landmarks turn by 9 degrees, and these by 18; two crops of one person become more alike
    (correlation of plain pixels, 900 pairs: 0.43 instead of 0.39).
    """
    x, y = face.centre
    side = max(face.box[2:])
    reach = side * _CLOSE_UP_MARGIN / 2
    left, top = max(0, floor(x - reach)), max(0, floor(y - reach))
    part = image[top : max(0, ceil(y + reach)), left : max(0, ceil(x + reach))]
    if not part.size:
        return face
    close_up, enlarge = resize(part, min(_CLOSE_UP_FACE / side, _MAX_ENLARGEMENT))
    (again,) = detector.detect_batch([close_up], [""])
    if not again:
        return face
    measured = [_enlarge(other, enlarge) for other in again]
    nearest = min(measured, key=lambda other: dist(other.centre, (x - left, y - top)))
    return replace(face, landmarks=nearest.landmarks + np.array([left, top]))


def choose_face(faces: Sequence[Face], image_size: tuple[int, int], rule: str = "central") -> Face:
    """One of `faces` (at least one) by the `rule` of `CHOOSERS`; `image_size` is (height, width) in pixels.

    Raises `UserError` for an unknown rule.
    """
    return CHOOSERS[rule](faces, image_size)


def _central(faces: Sequence[Face], image_size: tuple[int, int]) -> Face:
    height, width = image_size
    return min(faces, key=lambda face: dist(face.centre, (width / 2, height / 2)))


def _largest(faces: Sequence[Face], image_size: tuple[int, int]) -> Face:
    return max(faces, key=lambda face: face.area)


CHOOSERS: Table[Callable[[Sequence[Face], tuple[int, int]], Face]] = Table(
    "face choice",
    [
        (
            "central",
            _central,
        ),  # box centre nearest to the image centre: sets whose photographs centre on a person
        ("largest", _largest),  # greatest box area: photographs taken at large
    ],
)


def _face(row: NDArray[np.float64]) -> Face:
    """A row of FaceDetectorYN: box 4, landmarks 10, score 1.

    Its "right eye" is the person's, on the left of the image, and so is the mouth's: the order is ours.
    """
    x, y, width, height = row[:4].tolist()
    return Face(box=(x, y, width, height), landmarks=row[4:14].reshape(5, 2), score=float(row[14]))


def check_image(image: Image) -> None:
    """Raise `UserError` unless `image` is uint8 (H, W, 3) and has pixels."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise UserError(f"image: got {image.dtype} {image.shape}, detect takes uint8 (height, width, 3) RGB")


def check_threshold(score_threshold: float) -> None:
    """Raise `UserError` unless `score_threshold` is in (0, 1]."""
    if not 0 < score_threshold <= 1:
        raise UserError(f"score threshold {score_threshold}: must lie above 0 and at most at 1 (0.6 is usual)")


def resize(image: Image, scale: float) -> tuple[Image, NDArray[np.float64]]:
    """`image` at about `scale`, and what its x and y are to be multiplied by to be those of `image` again."""
    height, width = image.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = image if size == (width, height) else cv2.resize(image, size, interpolation=interpolation)
    return scaled.astype(np.uint8, copy=False), np.array([width / size[0], height / size[1]])


def _enlarge(face: Face, factors: NDArray[np.float64]) -> Face:
    """`face` of a scaled image in pixels of the image itself.

    Pixel centres are at whole numbers, so a coordinate c becomes (c + 0.5) * factor - 0.5.
    """
    x, y, width, height = (np.reshape(face.box, (2, 2)) * factors).ravel().tolist()
    return replace(face, box=(x, y, width, height), landmarks=(face.landmarks + 0.5) * factors - 0.5)


def _load(model_file: Path, score_threshold: float) -> cv2.FaceDetectorYN:
    try:
        if model_file.stat().st_size > _MAX_MODEL_BYTES:
            raise UserError(f"{model_file}: larger than {_MAX_MODEL_BYTES >> 20} MiB, so not a YuNet face detector")
        data = np.frombuffer(model_file.read_bytes(), np.uint8)
    except OSError as error:
        raise UserError(f"{model_file}: cannot be read ({error.strerror or error})") from error
    try:
        with quiet_opencv():
            network = cv2.FaceDetectorYN.create("onnx", data, np.empty(0, np.uint8), (32, 32), score_threshold)
            network.detect(np.zeros((32, 32, 3), np.uint8))  # another ONNX file loads, and fails only here
    except cv2.error as error:
        raise UserError(
            f"{model_file}: not a YuNet face detector in ONNX that OpenCV {cv2.__version__} can run; "
            "the known one is face_detection_yunet_2023mar.onnx of the OpenCV Zoo"
        ) from error
    return network


@contextmanager
def quiet_opencv() -> Generator[None]:
    """OpenCV's own log is silent inside: OpenCV 5 warns of nothing at every start, and errors are raised."""
    log: Any = getattr(cv2.utils, "logging", cv2)  # the functions moved there in OpenCV 4.13
    level = log.getLogLevel()
    log.setLogLevel(_SILENT)
    try:
        yield
    finally:
        log.setLogLevel(level)
