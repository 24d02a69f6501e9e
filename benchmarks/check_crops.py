"""How often `data check` tells aligned RGB crops from others: python benchmarks/check_crops.py CROPS PHOTOGRAPHS

CROPS are aligned crops of PHOTOGRAPHS (`faceprint data align PHOTOGRAPHS CROPS`); LFW's photographs are 250x250.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np

from faceprint.data.check.crops import ALIGNED_SCORE, alignment_score, is_grey, redness
from faceprint.data.images import Image, images_below, read_image

IMAGES = 1500


def main(crops: Path, photographs: Path) -> None:
    names = images_below(crops)
    names = [names[index] for index in np.random.default_rng(0).permutation(len(names))[:IMAGES]]
    aligned = [read_image(crops / name) for name in names]
    whole = [read_image(photographs / name) for name in names]
    sets = {
        "aligned crops": aligned,
        "photographs": whole,
        "the middle 160 of 250 pixels": [_middle(image, 160) for image in whole],
        "the middle 100 of 250 pixels": [_middle(image, 100) for image in whole],
        "aligned, turned by 20 degrees": [_turned(image, 20) for image in aligned],
        "aligned, 8 pixels too low": [np.roll(image, 8, axis=0) for image in aligned],
        "aligned, red and blue swapped": [np.ascontiguousarray(image[..., ::-1]) for image in aligned],
    }
    print(json.dumps({name: _shares(images) for name, images in sets.items()}, indent=2))


def _shares(images: list[Image]) -> dict[str, float]:
    scores = np.array([alignment_score(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.uint8)) for image in images])
    blue = [redness(image) < 0 for image in images if not is_grey(image)]
    return {
        "do_not_look_aligned": round(float((~(scores >= ALIGNED_SCORE)).mean()), 4),
        "look_blue": round(float(np.mean(blue)), 4),
    }


def _middle(image: Image, side: int) -> Image:
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def _turned(image: Image, degrees: float) -> Image:
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    return cv2.warpAffine(image, turn, (width, height)).astype(np.uint8)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
