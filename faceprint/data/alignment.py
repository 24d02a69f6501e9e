"""Five landmarks to a face crop: the template, the similarity transform and the warp. Pure functions."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceprint.data.images import Image
from faceprint.errors import UserError

TEMPLATE: NDArray[np.float64] = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
)
"""Where five landmarks lie in a 112x112 crop: (x, y) in pixels of left eye, right eye, nose, left and right
mouth corner as seen in the image. Nearly every published network was trained on crops made with them."""

_TEMPLATE_SIDE = 112
_MAX_SIDE = 4096


def template(size: tuple[int, int] = (112, 112)) -> NDArray[np.float64]:
    """The template for a crop of `size` = (height, width): float64 (5, 2), (x, y) in pixels.

    It scales with height / 112 and stays centred across the width, so (112, 96) subtracts 8 from x.
    Raises `UserError` unless both are 1 to 4096.
    """
    height, width = size
    if not (1 <= height <= _MAX_SIDE and 1 <= width <= _MAX_SIDE):
        raise UserError(f"crop size {height}x{width}: height and width are 1 to {_MAX_SIDE} pixels")
    scale = height / _TEMPLATE_SIDE
    points = TEMPLATE * scale
    points[:, 0] -= (_TEMPLATE_SIDE * scale - width) / 2
    return points


def similarity_transform(source: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """The similarity that takes `source` (N, 2) to `target` (N, 2) with least squared error: float64 (2, 3).

    Returns [A | t]: a point x goes to A x + t. Rotation, one scale and translation, never a reflection:
    A = [[a, -b], [b, a]]. With centred points p of `source` and q of `target`, a = sum(p . q) / sum(|p|^2)
    and b = sum(p x q) / sum(|p|^2); this is, in two dimensions, the solution of Umeyama, "Least-squares
    estimation of transformation parameters between two point patterns", PAMI 1991, equations 40 to 43.
    Raises `UserError` where the points are not finite pairs, or all points of one of the two are the same.
    """
    p, q = _points(source, "source"), _points(target, "target")
    if p.shape != q.shape:
        raise UserError(f"source has {len(p)} points and target {len(q)}; they are pairs, give as many of each")
    p_mean, q_mean = p.mean(axis=0), q.mean(axis=0)
    p, q = p - p_mean, q - q_mean
    spread = float((p**2).sum())
    a = float((p * q).sum()) / spread
    b = float((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum()) / spread
    linear = np.array([[a, -b], [b, a]])
    return np.column_stack([linear, q_mean - linear @ p_mean])


def align(image: Image, landmarks: ArrayLike, size: tuple[int, int] = (112, 112)) -> Image:
    """Crop the face with these `landmarks` to `size` = (height, width) so that they lie on the template.

    `image`: uint8 (H, W, 3), any colour order, kept. `landmarks`: (5, 2), (x, y) in pixels of left eye, right
    eye, nose, left and right mouth corner as seen in the image; they may lie outside it. Returns uint8
    (height, width, 3), sampled linearly, black where the image does not reach.
    Raises `UserError` for another shape or type, landmarks that are not finite, or all in one place.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise UserError(f"image: got {image.dtype} {image.shape}, align takes uint8 (height, width, 3)")
    points = _points(landmarks, "landmarks")
    if points.shape != TEMPLATE.shape:
        raise UserError(f"landmarks: got shape {points.shape}, align takes (5, 2): five points, each (x, y) in pixels")
    matrix = similarity_transform(points, template(size))
    height, width = size
    return cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    ).astype(np.uint8, copy=False)


def _points(given: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        points = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: not an array of numbers ({error})") from error
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2:
        raise UserError(f"{name}: got shape {points.shape}, expected (N, 2): points, each (x, y) in pixels")
    if not np.isfinite(points).all():
        raise UserError(f"{name}: not every coordinate is a finite number")
    if np.ptp(points, axis=0).max() == 0:
        raise UserError(
            f"{name}: all points are at ({points[0, 0]:g}, {points[0, 1]:g}), which fixes no scale or angle"
        )
    return points
