"""Augmentation of whole batches, on the device that trains, before pixel normalisation.

Random numbers are drawn on the CPU from a generator that the caller seeds by step: the same images on any device, and
the same again after a resume.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What happens to a batch of float pixels (B, 3, H, W) RGB 0..255; zero switches a part off.

    `flip`, `grey`, `erase` are probabilities; `shift` is a fraction of the side, `zoom`, `contrast` and `saturation`
    are widths around a factor of 1, `brightness` is a fraction of the pixel range, `rotate` is in degrees.
    """

    flip: float = 0.5
    shift: float = 0.0
    zoom: float = 0.0
    rotate: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    grey: float = 0.0
    erase: float = 0.0

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, 3, H, W) float 0..255 -> the same shape and range; the argument is not changed."""
        images = self._move(images, generator)
        images = self._colour(images, generator)
        return self._erase(images, generator)

    def _move(self, images: Tensor, generator: Generator) -> Tensor:
        count = len(images)
        mirror = torch.where(torch.rand(count, generator=generator) < self.flip, -1.0, 1.0)
        if not (self.shift or self.zoom or self.rotate):
            return torch.where((mirror < 0).to(images.device)[:, None, None, None], images.flip(3), images)
        angle = _spread(count, math.radians(self.rotate), generator)
        scale = 1.0 / (1.0 + _spread(count, self.zoom, generator))
        cos, sin = angle.cos() * scale, angle.sin() * scale
        across, down = 2 * _spread(count, self.shift, generator), 2 * _spread(count, self.shift, generator)
        rows = [torch.stack([cos * mirror, -sin, across], 1), torch.stack([sin * mirror, cos, down], 1)]
        theta = torch.stack(rows, 1).to(images.device, images.dtype)
        grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)

    def _colour(self, images: Tensor, generator: Generator) -> Tensor:
        if not (self.brightness or self.contrast or self.saturation or self.grey):
            return images
        count = len(images)
        saturation = 1.0 + _spread(count, self.saturation, generator)
        saturation = torch.where(torch.rand(count, generator=generator) < self.grey, 0.0, saturation)
        contrast = 1.0 + _spread(count, self.contrast, generator)
        brightness = 255.0 * _spread(count, self.brightness, generator)
        saturation, contrast, brightness = (
            values.to(images.device, images.dtype)[:, None, None, None] for values in (saturation, contrast, brightness)
        )
        grey = luminance(images)
        images = grey + (images - grey) * saturation
        centre = images.mean((1, 2, 3), keepdim=True)
        return (centre + (images - centre) * contrast + brightness).clamp(0.0, 255.0)

    def _erase(self, images: Tensor, generator: Generator) -> Tensor:
        if not self.erase:
            return images
        count, _, height, width = images.shape
        sides = 0.1 + 0.35 * torch.rand(2, count, generator=generator)
        corner = torch.rand(2, count, generator=generator) * (1.0 - sides)
        chosen = torch.rand(count, generator=generator) < self.erase
        down, across = (torch.arange(n)[None] + 0.5 for n in (height, width))
        inside_rows = (down >= (corner[0] * height)[:, None]) & (down < ((corner + sides)[0] * height)[:, None])
        inside_columns = (across >= (corner[1] * width)[:, None]) & (across < ((corner + sides)[1] * width)[:, None])
        mask = inside_rows[:, :, None] & inside_columns[:, None, :] & chosen[:, None, None]
        return images.masked_fill(mask[:, None].to(images.device), 127.5)


def luminance(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB -> (B, 1, H, W), weights of ITU-R BT.601."""
    red, green, blue = images.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def _spread(count: int, width: float, generator: Generator) -> Tensor:
    """`count` values uniform in -width .. width."""
    return (2.0 * torch.rand(count, generator=generator) - 1.0) * width
