"""Is an image an upright RGB face crop? Two measures that need no network."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from faceprint.data.alignment import template
from faceprint.data.images import Image

ALIGNED_SCORE = 0.10
"""`alignment_score` of 5 % of aligned LFW crops lies below, of photographs that were not cropped 96 %."""
GREY_DIFFERENCE = 4.0
"""Grey levels by which the red and blue of a coloured image differ on average, at least."""

_HEIGHT = 28
_EXTENT = slice(30, 100), slice(26, 86)  # of 112: what is face in an aligned crop, with little background
_Floats = NDArray[np.floating[Any]]


def alignment_score(grey: NDArray[np.uint8]) -> float:
    """How much a grey image (H, W) has dark eyes and mouth where an aligned face has them: -1 to 1.

    The correlation of the image at 28 pixels height, its large-scale light taken away, with dark spots at the eyes
    and the mouth of the alignment template and bright ones at cheeks and the bridge of the nose. Nan where the
    image has another shape than a portrait (a side more than twice the other) or no content.
    """
    height, width = grey.shape
    if not height <= 2 * width <= 4 * height:
        return float("nan")
    columns = max(1, round(_HEIGHT * width / height))
    small = cv2.resize(grey, (columns, _HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32)
    detail = _without_light(small)
    strength = float(np.linalg.norm(detail))
    return float((detail * _pattern(columns)).sum()) / strength if strength > 1 else float("nan")


def redness(image: Image) -> float:
    """Mean red less mean blue where the face is, -255 to 255, of a uint8 (H, W, 3) RGB image.

    Skin of every tone reflects more red than blue: of 1,500 aligned LFW crops 99.7 % are above 0, the rest grey. With
    the colours swapped the sign turns.
    """
    height, width = image.shape[:2]
    rows, columns = (
        slice(extent.start * side // 112, max(1, extent.stop * side // 112))
        for extent, side in zip(_EXTENT, (height, width), strict=True)
    )
    red, _, blue, _ = cv2.mean(np.ascontiguousarray(image[rows, columns]))
    return red - blue


def is_grey(image: Image) -> bool:
    """Whether red and blue are the same but for what JPEG makes of grey, in a uint8 (H, W, 3) RGB image."""
    return cv2.mean(cv2.absdiff(image[..., 0], image[..., 2]))[0] < GREY_DIFFERENCE


@lru_cache(maxsize=16)
def _pattern(columns: int) -> _Floats:
    """(28, columns), of length 1: what `alignment_score` looks for."""
    eyes_and_mouth = template((_HEIGHT, columns))
    left, right = eyes_and_mouth[:2]
    mouth = eyes_and_mouth[3:].mean(axis=0)
    bridge, eye_to_mouth = (left + right) / 2, mouth[1] - (left[1] + right[1]) / 2
    pattern = 0.5 * _spot(columns, bridge, 1.25, 2.0) - 0.7 * _spot(columns, mouth, 2.6, 1.0)
    for eye in (left, right):
        cheek = eye + np.array([0.0, eye_to_mouth / 2])
        pattern += 0.6 * _spot(columns, cheek, 2.0, 2.0) - _spot(columns, eye, 2.0, 1.0)
    pattern = _without_light(pattern)
    return pattern / np.linalg.norm(pattern)


def _spot(columns: int, centre: NDArray[np.float64], width: float, height: float) -> _Floats:
    y, x = np.mgrid[:_HEIGHT, :columns]
    return np.exp(-(((x - centre[0]) / width) ** 2 + ((y - centre[1]) / height) ** 2) / 2)


def _without_light(pixels: _Floats) -> _Floats:
    detail = pixels - cv2.GaussianBlur(pixels, (0, 0), 3).astype(np.float32)
    return detail - detail.mean()
