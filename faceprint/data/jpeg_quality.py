"""What JPEG of a given quality does to pixels, for a batch on any device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# ITU-T T.81 (1992), annex K, tables K.1 (luminance) and K.2 (chrominance), row by row.
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
# JFIF 1.02: RGB to Y, Cb, Cr; the last two are around 0 here.
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def jpeg(images: Tensor, qualities: Tensor) -> Tensor:
    """(B, 3, H, W) float RGB 0..255 -> what an encoder of `qualities` (B,), 1 to 100, and a decoder leave of them.

    Baseline JPEG with chrominance at half resolution, as encoders do by default: means of 2x2 in, linear out. All but
    the entropy coding, which loses nothing. Quality scales the tables as libjpeg does: s = 5000 / q below 50, else
    200 - 2 q, in per cent.
    """
    height, width = images.shape[2:]
    padded = functional.pad(images, (0, -width % 16, 0, -height % 16), mode="replicate")
    ycc = _mix(_TO_YCC, padded).round()  # both sides keep whole numbers: without that, steps at half way differ
    light, colour = ycc[:, :1] - 128.0, functional.avg_pool2d(ycc[:, 1:], 2).round()
    light = _quantise(light, _table(_LUMINANCE, qualities)) + 128.0
    colour = _quantise(colour, _table(_CHROMINANCE, qualities))
    colour = functional.interpolate(colour, scale_factor=2.0, mode="bilinear", align_corners=False)
    rgb = _mix(_TO_RGB, torch.cat([light, colour], 1))
    return rgb[:, :, :height, :width].round().clamp(0.0, 255.0)


def _mix(matrix: tuple[tuple[float, ...], ...], images: Tensor) -> Tensor:
    weights = torch.tensor(matrix, dtype=images.dtype, device=images.device)
    return functional.conv2d(images, weights[:, :, None, None])


def _table(table: tuple[tuple[int, ...], ...], qualities: Tensor) -> Tensor:
    """(B, 64): the steps that coefficients are rounded to, row by row."""
    percent = torch.where(qualities < 50, torch.floor(5000 / qualities), 200 - 2 * qualities)
    base = torch.tensor(table).flatten()
    return torch.floor((base * percent[:, None] + 50) / 100).clamp(1, 255)


def _quantise(planes: Tensor, table: Tensor) -> Tensor:
    """(B, C, H, W), sides multiples of 8: the cosine transform of each 8x8 block, rounded, and back."""
    count, channels, height, width = planes.shape
    blocks = planes.reshape(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4).reshape(count, -1, 64)
    transform = _transform(planes)
    steps = table.to(planes.device, planes.dtype)[:, None]
    blocks = (blocks @ transform.T / steps).round() * steps @ transform
    blocks = blocks.reshape(count, channels, height // 8, width // 8, 8, 8).transpose(3, 4)
    return blocks.reshape(count, channels, height, width).round().clamp(-128.0, 127.0)


def _transform(like: Tensor) -> Tensor:
    """(64, 64): the two-dimensional cosine transform of a block, orthogonal. T.81, A.3.3."""
    places = torch.arange(8)
    rows = 0.5 * torch.cos((2 * places + 1) * places[:, None] * (torch.pi / 16))
    rows[0] /= 2**0.5
    return torch.kron(rows, rows).to(like.device, like.dtype)
