"""A picture of what an augmentation does: to look at before a training, rather than after it."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from faceprint.data.augment import Augmentation
from faceprint.data.images import Image, ImageError
from faceprint.data.pixels import InputSpec
from faceprint.data.source import Source
from faceprint.errors import UserError

COLUMNS = 9
_TOGETHER = 4
_GAP = 6
_LABEL = 128
_INK = (40, 40, 40)


def augmentation_sheet(source: Source, augmentation: Augmentation, seed: int = 0) -> Image:
    """uint8 (H, W, 3) RGB: nine faces spread over `source`, what training sees of them, drawn four times by `seed`, and
    each part that is switched on alone, on every face.

    Raises `UserError` where faces have different sizes, or none can be read.
    """
    faces = _faces(source)
    rows = [("as they are", faces)]
    rows += [
        ("in training" if turn == 0 else "", _apply(augmentation, faces, seed + turn)) for turn in range(_TOGETHER)
    ]
    rows += [(f"{name} alone", _apply(part, faces, seed)) for name, part in augmentation.alone().items()]
    return np.concatenate([_row(label, images) for label, images in rows] + [_blank(_GAP, _width(faces))])


def _faces(source: Source) -> NDArray[np.uint8]:
    found: list[Image] = []
    for index in np.linspace(0, len(source) - 1, min(COLUMNS, len(source))).astype(int):
        try:
            image, _ = source[int(index)]
        except ImageError:
            continue
        height, width = (found[0] if found else image).shape[:2]
        InputSpec(size=(height, width)).check(image, source.name(int(index)))
        found.append(image)
    if not found:
        raise UserError(f"{source.name(0)} and the others that were tried cannot be read: nothing to show")
    return np.stack(found)


def _apply(augmentation: Augmentation, faces: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    pixels = torch.from_numpy(faces).permute(0, 3, 1, 2).float()
    made = augmentation(pixels, torch.Generator().manual_seed(seed))
    return made.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _row(label: str, images: NDArray[np.uint8]) -> Image:
    count, height, width = images.shape[:3]
    row = _blank(height + _GAP, _width(images))
    cv2.putText(row, label, (_GAP, _GAP + height // 2), cv2.FONT_HERSHEY_DUPLEX, 0.4, _INK, 1, cv2.LINE_AA)
    for column in range(count):
        left = _LABEL + column * (width + _GAP)
        row[_GAP:, left : left + width] = images[column]
    return row


def _width(images: NDArray[np.uint8]) -> int:
    return _LABEL + images.shape[0] * (images.shape[2] + _GAP)


def _blank(height: int, width: int) -> Image:
    return np.full((height, width, 3), 255, np.uint8)
