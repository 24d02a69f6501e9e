"""Blur and change of resolution as matrices: both are linear, and separate into rows and columns.

One product of matrices does a whole batch, each image with a kernel of its own, on any device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor


def separable(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H', W'): matrices `down` (B, H', H) along columns and `across` (B, W', W) along rows."""
    down, across = (matrix.to(images.device, images.dtype)[:, None] for matrix in (down, across))
    return down @ images @ across.transpose(2, 3)


def blur_matrices(side: int, sigmas: Tensor) -> Tensor:
    """(B, side, side): weights exp(-(i - j)^2 / (2 sigma^2)) with rows that sum to 1; `sigmas` (B,) in pixels."""
    places = torch.arange(side)
    squares = ((places[:, None] - places[None]) ** 2).float()
    weights = torch.exp(-squares / (2 * sigmas[:, None, None] ** 2))
    return weights / weights.sum(2, keepdim=True)


def low_resolution_matrices(side: int, smaller: list[int], ways: list[tuple[str, str]]) -> Tensor:
    """(B, side, side): down to `smaller` pixels and up again, by the two names of `INTERPOLATIONS` in `ways`."""
    made = [
        resize_matrix(up, small, side) @ resize_matrix(down, side, small)
        for small, (down, up) in zip(smaller, ways, strict=True)
    ]
    return torch.stack(made)


@lru_cache(maxsize=4096)
def resize_matrix(way: str, source: int, target: int) -> Tensor:
    """(target, source): what OpenCV's `resize` does to one row of `source` pixels, by a name of `INTERPOLATIONS`.

    As there, nothing is smoothed before it is made smaller, but by `area`; borders are repeated.
    """
    if way == "nearest":
        return _one_hot(torch.floor(torch.arange(target) * (source / target)).long(), source)
    if way == "area" and target <= source:
        return _area(source, target)
    reach, kernel = _KERNELS["linear" if way == "area" else way]
    centres = (torch.arange(target) + 0.5) * (source / target) - 0.5
    first = torch.floor(centres).long() - reach + 1
    taps = first[:, None] + torch.arange(2 * reach)
    weights = kernel(centres[:, None] - taps)
    weights = weights / weights.sum(1, keepdim=True)
    return torch.zeros(target, source).scatter_add_(1, taps.clamp(0, source - 1), weights)


def _one_hot(places: Tensor, source: int) -> Tensor:
    return torch.nn.functional.one_hot(places.clamp(max=source - 1), source).float()


def _area(source: int, target: int) -> Tensor:
    """Means over boxes: how much of pixel j lies in box i."""
    edges = torch.arange(target + 1) * (source / target)
    pixels = torch.arange(source)
    overlap = torch.minimum(edges[1:, None], pixels + 1.0) - torch.maximum(edges[:-1, None], pixels.float())
    return overlap.clamp(min=0) * (target / source)


def _linear(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _cubic(x: Tensor) -> Tensor:
    """Keys, "Cubic convolution interpolation", 1981, with a = -0.75."""
    a, x = -0.75, x.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0.0))


def _lanczos(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 4, torch.sinc(x) * torch.sinc(x / 4), 0.0)


_KERNELS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "linear": (1, _linear),
    "cubic": (2, _cubic),
    "lanczos": (4, _lanczos),
}
INTERPOLATIONS = ("nearest", "area", *_KERNELS)


def smaller_side(side: int, scale: float) -> int:
    return max(1, math.floor(side * scale))
