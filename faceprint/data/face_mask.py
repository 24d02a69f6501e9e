"""Drawn face masks: what training for masked faces needs, without a photograph of a mask."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from faceprint.data.alignment import template

# In units of the distance from eyes to mouth, from the tip of the nose, on an upright face: the mask's outline from the
# bridge of the nose by the right cheek and the chin back, then the ear loops, which end beyond the crop.
_RIGHT = ((0.0, -0.32), (0.34, -0.12), (0.92, 0.02), (0.86, 0.55), (0.52, 0.98), (0.0, 1.12))
_LOOPS = (((0.88, 0.02), (1.7, -0.3), (1.7, -0.24), (0.88, 0.08)), ((0.84, 0.5), (1.6, 0.1), (1.6, 0.16), (0.84, 0.56)))
_PLEATS = (0.12, 0.34, 0.56)
_WOBBLE = 0.06
_TONES = ((0.93, 0.95, 0.97), (0.55, 0.75, 0.86), (0.12, 0.12, 0.14), (0.72, 0.85, 0.78), (0.9, 0.7, 0.75))


def draw_masks(images: Tensor, wobble: Tensor, colours: Tensor) -> Tensor:
    """(B, 3, H, W) float RGB 0..255 of aligned faces -> the same faces with masks over nose, mouth and chin.

    `wobble` (B, 2, 5) in -1 .. 1 moves the four outer corners of either side, and last the mask; `colours` (B, 3) are
    RGB 0..255. The place is that of the alignment template at this size.
    """
    height, width = images.shape[2:]
    points = template((height, width))
    down, across = torch.meshgrid(torch.arange(height) + 0.0, torch.arange(width) + 0.0, indexing="ij")
    unit = float(points[3:, 1].mean() - points[:2, 1].mean())
    x = (across - float(points[:, 0].mean())) / unit - _WOBBLE * wobble[:, 0, 4, None, None]
    y = (down - float(points[2, 1])) / unit - _WOBBLE * wobble[:, 1, 4, None, None]
    moves = functional.pad(_WOBBLE * wobble[:, :, :4], (1, 1))[..., None]  # where the sides meet nothing moves
    sides = (torch.tensor(_RIGHT) + moves).unbind(1)
    inside = torch.where(x >= 0, _inside(x, y, sides[0]), _inside(-x, y, sides[1]))
    loops = torch.stack([_inside(x.abs(), y, torch.tensor(loop).expand(len(x), -1, -1)) for loop in _LOOPS]).any(0)
    shade = _shade(x, y).to(images)[:, None] * colours.to(images)[:, :, None, None]
    covered = (inside | loops)[:, None].to(images.device)
    return torch.where(covered, shade.clamp(0.0, 255.0), images)


def mask_colours(count: int, generator: torch.Generator) -> Tensor:
    """(count, 3) RGB 0..255: white, blue, black, green or pink, each a little different."""
    tones = torch.tensor(_TONES)[torch.randint(len(_TONES), (count,), generator=generator)]
    return 255.0 * (tones + 0.1 * (torch.rand(count, 3, generator=generator) - 0.5)).clamp(0.0, 1.0)


def _shade(x: Tensor, y: Tensor) -> Tensor:
    """Rounder towards the sides, with the lines of three pleats."""
    pleats = sum(torch.exp(-(((y - at - 0.08 * x * x) / 0.02) ** 2)) for at in _PLEATS)
    return 1.05 - 0.25 * x * x - 0.12 * pleats


def _inside(x: Tensor, y: Tensor, corners: Tensor) -> Tensor:
    """(B, H, W): which pixels lie in the polygons `corners` (B, V, 2), by the number of edges to the right of them."""
    inside = torch.zeros(x.shape, dtype=torch.bool)
    for start, end in zip(corners.unbind(1), corners.roll(-1, 1).unbind(1), strict=True):
        (x0, y0), (x1, y1) = ((point[:, 0, None, None], point[:, 1, None, None]) for point in (start, end))
        crosses = (y0 > y) != (y1 > y)
        inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / torch.where(y1 == y0, 1.0, y1 - y0))
    return inside
