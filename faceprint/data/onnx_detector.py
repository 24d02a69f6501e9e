"""Any SCRFD or RetinaFace with five landmarks, from an ONNX file, run by onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from faceprint.data.anchors import Candidates, Floats, Layout, recognise
from faceprint.data.detection import LONGER_SIDES, Face, check_image, check_threshold, resize
from faceprint.data.images import Image
from faceprint.errors import UserError
from faceprint.onnx_extra import require, session_options

_MAX_MODEL_BYTES = 1 << 30
_MAX_SIDE = 4096  # of a fixed input
_IMAGES_A_CALL = 8
_MOST_CANDIDATES = 5000  # of one image, before those that overlap are dropped
_MAX_OVERLAP = 0.4  # of two boxes, intersection over union, as insightface has it


class OnnxDetector:
    """An SCRFD or RetinaFace network; which of the families of `anchors.py` it is, its outputs tell.

    Photographs are scaled to fit the network's input, and filled up with black at the right and below. Where the
    file leaves the input's size open, that is 640 x 640, and 320 and 1280 for those in which no face was found.
    Several photographs go through at once where the file takes a batch. `score_threshold` in (0, 1]. Raises
    `UserError` for a file that cannot be read or is none of these networks.
    """

    def __init__(self, model_file: str | os.PathLike[str], score_threshold: float = 0.5) -> None:
        check_threshold(score_threshold)
        self._threshold = score_threshold
        self._path = Path(model_file)
        self._session = _open_session(self._path)
        given = self._session.get_inputs()[0]
        self._input: str = given.name
        self._fixed = _fixed_size(given.shape, self._path)
        self._layout = self._probe()
        self._takes_batches = self._probe_batch()

    def detect_batch(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Face]]:
        """As `Detector` has it."""
        for image in images:
            check_image(image)
        found: list[list[Face]] = [[] for _ in images]
        for size in [self._fixed] if self._fixed else [(side, side) for side in LONGER_SIDES]:
            left = [i for i in range(len(images)) if not found[i] and (size[0] <= 640 or max(images[i].shape) > 640)]
            for at in range(0, len(left), _IMAGES_A_CALL):
                part = left[at : at + _IMAGES_A_CALL]
                for i, faces in zip(part, self._detect_at([images[i] for i in part], size), strict=True):
                    found[i] = faces
        return found

    def _detect_at(self, images: Sequence[Image], size: tuple[int, int]) -> list[list[Face]]:
        fitted = [_fit(image, size) for image in images]
        pixels = np.stack([image for image, _ in fitted])
        factors = [factor for _, factor in fitted]
        answers = self._run(pixels) if self._takes_batches else [self._run(one[None])[0] for one in pixels]
        candidates = [self._layout.read(answer, *size) for answer in answers]
        return [self._faces(found, factor) for found, factor in zip(candidates, factors, strict=True)]

    def _run(self, images: NDArray[np.uint8]) -> list[list[Floats]]:
        """The outputs for each of the images (B, H, W, 3), RGB."""
        return _for_each(self._infer(_prepare(images, self._layout)), len(images))

    def _infer(self, pixels: Floats) -> list[Floats]:
        try:
            outputs: list[Any] = self._session.run(None, {self._input: pixels})
        except Exception as error:  # onnxruntime's exceptions share no class of their own
            raise UserError(f"{self._path}: fails on an image of {pixels.shape[2:]}: {_line(error)}") from error
        return [np.asarray(output, np.float32) for output in outputs]

    def _faces(self, found: Candidates, factor: NDArray[np.float64]) -> list[Face]:
        found = found.surest(self._threshold, _MOST_CANDIDATES)
        boxes, landmarks = self._layout.decode(found)
        kept = np.asarray(cv2.dnn.NMSBoxes(boxes.tolist(), found.scores.tolist(), 0.0, _MAX_OVERLAP), int).ravel()
        corners = (boxes.reshape(-1, 2, 2) * factor).reshape(-1, 4).tolist()
        return [
            Face(
                box=(corners[i][0], corners[i][1], corners[i][2], corners[i][3]),
                landmarks=landmarks[i] * factor,
                score=min(1.0, float(found.scores[i])),
            )
            for i in kept
        ]

    def _probe(self) -> Layout:
        """Run a black image; the family that its outputs are of."""
        height, width = self._fixed or (128, 128)
        outputs = _for_each(self._infer(np.zeros((1, 3, height, width), np.float32)), 1)[0]
        layout = recognise(outputs)
        if layout is None:
            shapes = ", ".join("x".join(map(str, output.shape)) for output in outputs[:16])
            raise UserError(
                f"{self._path}: no SCRFD or RetinaFace with five landmarks: its outputs are {shapes}; known are SCRFD"
                " (9 or 15 outputs) and RetinaFace of PyTorch (3 outputs) or MXNet (9 maps)"
            )
        candidates = layout.read(outputs, height, width)
        if not len(candidates.scores) == len(candidates.boxes) == len(candidates.landmarks) == len(candidates.centres):
            raise UserError(f"{self._path}: gives {len(candidates.scores)} anchors for {height}x{width} pixels, not "
                            f"the {len(candidates.centres)} of the family that its outputs look like")  # fmt: skip
        return layout

    def _probe_batch(self) -> bool:
        height, width = self._fixed or (128, 128)
        if isinstance(self._session.get_inputs()[0].shape[0], int):
            return False
        try:
            outputs = self._infer(np.zeros((2, 3, height, width), np.float32))
        except UserError:
            return False
        return all(output.ndim > 2 and len(output) == 2 for output in outputs)


def _for_each(outputs: Sequence[Floats], count: int) -> list[list[Floats]]:
    """Outputs of a batch -> those of each image. Some files leave the batch out of their outputs, (P, C)."""
    has_batch = all(output.ndim > 2 for output in outputs)
    return [[output[i] if has_batch else output for output in outputs] for i in range(count)]


def _prepare(images: NDArray[np.uint8], layout: Layout) -> Floats:
    """uint8 (B, H, W, 3) RGB -> float32 (B, 3, H, W)."""
    ordered = images[..., ::-1] if layout.bgr else images
    scaled = (ordered.astype(np.float32) - np.array(layout.mean, np.float32)) / np.float32(layout.std)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _fit(image: Image, size: tuple[int, int]) -> tuple[Image, NDArray[np.float64]]:
    """`image` scaled into the top left of `size` = (height, width), and the factors of x and y back.

    **Coordinates are multiplied by the factor alone, as these networks are trained and published, not moved by half
    a pixel as in `YuNet`.**
    """
    height, width = image.shape[:2]
    scaled, factor = resize(image, min(size[0] / height, size[1] / width))
    canvas = np.zeros((*size, 3), np.uint8)
    canvas[: scaled.shape[0], : scaled.shape[1]] = scaled
    return canvas, factor


def _fixed_size(shape: Sequence[Any], path: Path) -> tuple[int, int] | None:
    """(height, width) of the input where the file fixes them."""
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        raise UserError(f"{path}: takes {shape}, not images (B, 3, H, W)")
    height, width = shape[2:]
    if not (isinstance(height, int) and isinstance(width, int)):
        return None
    if not (32 <= height <= _MAX_SIDE and 32 <= width <= _MAX_SIDE):
        raise UserError(f"{path}: takes images of {height}x{width}; 32 to {_MAX_SIDE} pixels are expected")
    return height, width


def _open_session(path: Path) -> Any:
    runtime = require("onnxruntime")
    options = session_options(1)  # several processes share the cores
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [name for name in wanted if name in runtime.get_available_providers()]
    try:
        if path.stat().st_size > _MAX_MODEL_BYTES:
            raise UserError(f"{path}: larger than {_MAX_MODEL_BYTES >> 20} MiB, so no face detector")
        return runtime.InferenceSession(path.read_bytes(), options, providers=providers)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UserError:
        raise
    except Exception as error:  # as in `_infer`
        raise UserError(f"{path}: onnxruntime {runtime.__version__} cannot run it: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
