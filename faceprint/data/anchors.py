"""What SCRFD and RetinaFace networks give, turned into boxes and landmarks: anchors and their three codings.

Sources: insightface `python-package/insightface/model_zoo/{scrfd,retinaface}.py` (SCRFD) and
`detection/retinaface/retinaface.py` (RetinaFace in MXNet); biubug6/Pytorch_Retinaface `utils/box_utils.py`,
`layers/functions/prior_box.py`, `detect.py` (RetinaFace in PyTorch).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Decoded = tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]
"""Boxes (P, 4) as x, y, width, height, and landmarks (P, 5, 2)."""
Levels = tuple[tuple[int, tuple[int, ...]], ...]
"""Of each feature map its stride, and the sizes of the anchors at each of its cells, in pixels."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """A network's answer for one image: P anchors, each with what it was found to be.

    `scores` (P,); `boxes` (P, 4) and `landmarks` (P, 5, 2) in the network's coding; `centres` (P, 2) and `sizes`
    (P,) of the anchors in pixels of the network's input.
    """

    scores: Floats
    boxes: Floats
    landmarks: Floats
    centres: Floats
    sizes: Floats

    def surest(self, threshold: float, most: int) -> Candidates:
        """Those with a score of at least `threshold` and nothing but finite numbers: the `most` surest, those first."""
        finite = np.isfinite(self.boxes).all(axis=1) & np.isfinite(self.landmarks).all(axis=(1, 2))
        kept = np.flatnonzero((self.scores >= threshold) & finite)
        kept = kept[np.argsort(-self.scores[kept], kind="stable")][:most]
        return Candidates(
            self.scores[kept], self.boxes[kept], self.landmarks[kept], self.centres[kept], self.sizes[kept]
        )


@dataclass(frozen=True)
class Layout:
    """One family of networks.

    Input: (pixel - `mean`) / `std`, channels RGB or, with `bgr`, BGR (`mean` in the same order). `read(outputs of
    one image, height, width of the input)` gives the candidates; `decode(candidates)` their boxes (P, 4) as x, y,
    width, height, and landmarks (P, 5, 2), in pixels of the input.
    """

    mean: tuple[float, float, float]
    std: float
    bgr: bool
    read: Callable[[Sequence[Floats], int, int], Candidates]
    decode: Callable[[Candidates], Decoded]


def recognise(outputs: Sequence[Floats]) -> Layout | None:
    """The family that gives such outputs for one image, (P, C) or (C, H, W) each; None where it is none of them."""
    shapes = [output.ndim for output in outputs]
    channels = sorted(output.shape[0 if output.ndim == 3 else -1] for output in outputs if output.ndim in (2, 3))
    for dimensions, expected, layout in _FAMILIES:
        if shapes == [dimensions] * len(expected) and channels == sorted(expected):
            return layout
    return None


@lru_cache(maxsize=8)
def _anchors(height: int, width: int, levels: Levels, first: float | None) -> tuple[Floats, Floats]:
    """Centres (P, 2) and sizes (P,): rows, columns, then the sizes at a cell. The first centre of each level is at
    `first` in x and y, in the middle of its cell for None."""
    centres: list[NDArray[np.float64]] = []
    sizes: list[NDArray[np.float64]] = []
    for stride, edges in levels:
        rows, columns = np.mgrid[: -(-height // stride), : -(-width // stride)]
        cells = np.stack([columns, rows], axis=-1).reshape(-1, 2) * stride + (stride / 2 if first is None else first)
        centres.append(np.repeat(cells, len(edges), axis=0))
        sizes.append(np.tile(np.array(edges, np.float64), len(cells)))
    return np.concatenate(centres).astype(np.float32), np.concatenate(sizes).astype(np.float32)


def _of_width(outputs: Sequence[Floats], channels: int) -> list[Floats]:
    """The outputs (P, `channels`), finest level first: the finer, the more anchors."""
    return sorted((output for output in outputs if output.shape[1] == channels), key=lambda output: -len(output))


def _read_scrfd(outputs: Sequence[Floats], height: int, width: int) -> Candidates:
    scores = _of_width(outputs, 1)
    strides = [8 << level for level in range(len(scores))]
    a_cell = [len(score) // max(1, (height // s) * (width // s)) for score, s in zip(scores, strides, strict=True)]
    levels = tuple((stride, (stride,) * count) for stride, count in zip(strides, a_cell, strict=True))
    boxes, landmarks = (np.concatenate(_of_width(outputs, channels)) for channels in (4, 10))
    return Candidates(
        np.concatenate(scores)[:, 0], boxes, landmarks.reshape(-1, 5, 2), *_anchors(height, width, levels, 0.0)
    )


def _decode_scrfd(found: Candidates) -> Decoded:
    """Distances from the anchor's centre to left, top, right and bottom, and to the landmarks, in strides."""
    size = found.sizes[:, None]
    corner = found.centres - found.boxes[:, :2] * size
    edges = (found.boxes[:, :2] + found.boxes[:, 2:]) * size
    return np.concatenate([corner, edges], axis=1), found.centres[:, None] + found.landmarks * size[..., None]


_PYTORCH_LEVELS: Levels = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))


def _read_pytorch(outputs: Sequence[Floats], height: int, width: int) -> Candidates:
    (scores,), (boxes,), (landmarks,) = (_of_width(outputs, channels) for channels in (2, 4, 10))
    anchors = _anchors(height, width, _PYTORCH_LEVELS, None)
    return Candidates(scores[:, 1], boxes, landmarks.reshape(-1, 5, 2), *anchors)


def _decode_pytorch(found: Candidates) -> Decoded:
    """As MXNet's, but for offsets in tenths, logarithms of sizes in fifths, and edges that count no last pixel."""
    size = found.sizes[:, None]
    centre = found.centres + found.boxes[:, :2] * 0.1 * size
    edges = np.exp(found.boxes[:, 2:] * 0.2) * size
    landmarks = found.centres[:, None] + found.landmarks * 0.1 * size[..., None]
    return np.concatenate([centre - edges / 2, edges], axis=1), landmarks


_MXNET_LEVELS: Levels = ((8, (32, 16)), (16, (128, 64)), (32, (512, 256)))


def _read_mxnet(outputs: Sequence[Floats], height: int, width: int) -> Candidates:
    """Maps (C, H, W) of two anchors a cell: 4 channels of scores (two of "none" first), 8 of boxes, 20 of landmarks."""
    scores, boxes, landmarks = (_of_maps(outputs, channels) for channels in (4, 8, 20))
    faces = np.concatenate([score[:, 2:].reshape(-1) for score in scores])
    anchors = _anchors(height, width, _MXNET_LEVELS, 7.5)
    return Candidates(
        faces,
        np.concatenate([box.reshape(-1, 4) for box in boxes]),
        np.concatenate([points.reshape(-1, 5, 2) for points in landmarks]),
        *anchors,
    )


def _of_maps(outputs: Sequence[Floats], channels: int) -> list[Floats]:
    """The maps of so many channels as (H * W, channels), finest level first."""
    flat = [output.reshape(channels, -1).T for output in outputs if output.shape[0] == channels]
    return sorted(flat, key=lambda output: -len(output))


def _decode_mxnet(found: Candidates) -> Decoded:
    """Offsets of the centre and logarithms of the sizes, in anchors; a box of n pixels reaches from x to x + n - 1."""
    size = found.sizes[:, None]
    centre = found.centres + found.boxes[:, :2] * size
    edges = np.exp(found.boxes[:, 2:]) * size - 1
    landmarks = found.centres[:, None] + found.landmarks * size[..., None]
    return np.concatenate([centre - edges / 2, edges], axis=1), landmarks


_SCRFD = Layout((127.5, 127.5, 127.5), 128.0, bgr=False, read=_read_scrfd, decode=_decode_scrfd)
_PYTORCH = Layout((104.0, 117.0, 123.0), 1.0, bgr=True, read=_read_pytorch, decode=_decode_pytorch)
_MXNET = Layout((0.0, 0.0, 0.0), 1.0, bgr=False, read=_read_mxnet, decode=_decode_mxnet)

_FAMILIES: list[tuple[int, list[int], Layout]] = [
    # dimensions of an output, their channels, family
    (2, [1, 4, 10] * 3, _SCRFD),  # SCRFD 500M to 34G with landmarks: strides 8, 16, 32, two anchors a cell
    (2, [1, 4, 10] * 5, _SCRFD),  # five levels, strides 8 to 128, one anchor a cell
    (2, [2, 4, 10], _PYTORCH),
    (3, [4, 8, 20] * 3, _MXNET),
]
