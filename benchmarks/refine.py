"""How well landmarks are placed, and how fast, with YuNet alone and with the second look (`--refine`). Prints JSON.

    python benchmarks/refine.py PHOTOGRAPHS [--count 300] [--detector-model FILE]

Each photograph is detected as it is and in a copy that is turned, scaled and moved by amounts drawn from a seed. The
landmarks of the copy, moved back by the known transform, would be those of the photograph if the detector were exact.
`repeatability` is the root mean square distance between the two over the landmarks, in pixels of a 112 x 112 crop (the
distance of the eyes there is 35.2); `roll_degrees` how far the crops of the two differ in angle, and `scale_percent` in
size, root mean square. `photographs_per_second` is of one core, decoding and cropping included.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from faceprint.data.alignment import align, similarity_transform, template
from faceprint.data.detection import YuNet, choose_face, refine
from faceprint.data.images import Image, images_below, read_image
from faceprint.data.model_files import YUNET, find_model


def landmarks(detector: YuNet, image: Image, again: bool) -> NDArray[np.float64] | None:
    faces = detector.detect(image)
    if not faces:
        return None
    face = choose_face(faces, image.shape[:2])
    return (refine(detector, image, face) if again else face).landmarks


def disturbed(image: Image, random: np.random.Generator, degrees: float) -> tuple[Image, NDArray[np.float64]]:
    """A copy turned by up to `degrees`, scaled by 0.8 to 1.25, moved by up to 10 pixels; and the transform (2, 3)."""
    height, width = image.shape[:2]
    angle, scale = random.uniform(-degrees, degrees), float(np.exp(random.uniform(-0.223, 0.223)))
    turn = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale), np.float64)
    turn[:, 2] += random.uniform(-10, 10, 2)
    copy = cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return copy.astype(np.uint8), turn


def differences(detector: YuNet, images: list[Image], again: bool, degrees: float) -> dict[str, float | int]:
    random = np.random.default_rng(0)
    errors: list[float] = []
    angles: list[float] = []
    scales: list[float] = []
    missed = 0
    for image in images:
        copy, turn = disturbed(image, random, degrees)
        before, after = (landmarks(detector, each, again) for each in (image, copy))
        if before is None or after is None:
            missed += 1
            continue
        back = (after - turn[:, 2]) @ np.linalg.inv(turn[:, :2]).T
        first, second = (similarity_transform(points, template()) for points in (before, back))
        moved = [points @ first[:, :2].T + first[:, 2] for points in (before, back)]
        errors.append(float(((moved[0] - moved[1]) ** 2).sum(axis=1).mean()))
        angles.append(float(np.degrees(np.angle(complex(*first[:, 0]) / complex(*second[:, 0])))))
        scales.append(float(100 * np.log(np.linalg.det(second[:, :2]) / np.linalg.det(first[:, :2])) / 2))
    return {
        "repeatability": round(float(np.sqrt(np.mean(errors))), 2),
        "roll_degrees": round(float(np.sqrt(np.mean(np.square(angles)))), 2),
        "scale_percent": round(float(np.sqrt(np.mean(np.square(scales)))), 2),
        "missed": missed,
    }


def speed(detector: YuNet, paths: list[Path], again: bool) -> float:
    started = time.perf_counter()
    for path in paths:
        image = read_image(path)
        points = landmarks(detector, image, again)
        if points is not None:
            cv2.imencode(".jpg", align(image, points))
    return round(len(paths) / (time.perf_counter() - started), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--detector-model", default=YUNET.name)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    names = images_below(arguments.photographs)
    chosen = names[:: max(1, len(names) // arguments.count)][: arguments.count]
    paths = [arguments.photographs / name for name in chosen]
    images = [read_image(path) for path in paths]
    detector = YuNet(find_model(arguments.detector_model))
    for again in (False, True):
        result: dict[str, Any] = {"refine": again, "photographs": len(paths)}
        for degrees in (3.0, 20.0):
            result[f"turned by up to {degrees:g} degrees"] = differences(detector, images, again, degrees)
        print(json.dumps({**result, "photographs_per_second": speed(detector, paths, again)}))


if __name__ == "__main__":
    main()
