"""Do faces lie on the alignment template? Asked of a face detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from faceprint.data.alignment import template
from faceprint.data.detection import YuNet, choose_face, refine
from faceprint.data.images import ImageError
from faceprint.data.source import Source

MAX_OFFSET = 0.15
"""Of the distance between the eyes: what detectors differ by in aligned crops lies below, see the how-to."""
_SAMPLE = 500


def landmark_offsets(source: Source, detector_model: Path) -> tuple[int, list[float]]:
    """How many images were looked at, and for each with a face its distance from the template.

    At most 500 images, spread over the set. The distance is the mean over five landmarks of pixels between landmark
    and template, over those between the template's eyes. Raises `UserError` for a file that is no detector.
    """
    detector = YuNet(detector_model)
    chosen = np.unique(np.linspace(0, len(source) - 1, min(_SAMPLE, len(source))).astype(np.int64))
    offsets = (_offset(source, int(index), detector) for index in chosen)
    return len(chosen), [offset for offset in offsets if offset is not None]


def _offset(source: Source, index: int, detector: YuNet) -> float | None:
    try:
        image, _ = source[index]
    except ImageError:
        return None  # counted among the unreadable ones
    faces = detector.detect(image)
    if not faces:
        return None
    face = refine(detector, image, choose_face(faces, image.shape[:2]))
    points = template(image.shape[:2])
    return float(np.linalg.norm(face.landmarks - points, axis=1).mean() / np.linalg.norm(points[1] - points[0]))
