"""Augmentation of whole batches, on the device that trains, before pixel normalisation.

Random numbers are drawn on the CPU from a generator that the caller seeds by position: the same images on any device,
and the same again after a resume. Each part works on the images that it was drawn for only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional

from faceprint.data.face_mask import draw_masks, mask_colours
from faceprint.data.jpeg_quality import jpeg
from faceprint.data.resampling import (
    INTERPOLATIONS,
    blur_matrices,
    low_resolution_matrices,
    separable,
    smaller_side,
)

Range = tuple[float, float]

CROP_ASPECT = (3 / 4, 4 / 3)
"""Width over height of a cropped part, as AdaFace's (torchvision's default)."""

_TO_YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What happens to a batch of float pixels (B, 3, H, W) RGB 0..255; zero switches a part off.

    Probabilities: `mask` (a drawn face mask), `flip`, `move`, `crop`, `low_res`, `photometric`, `grey`, `blur`,
    `jpeg`, `erase`; the parts come in that order. Of `move`: `shift` is a fraction of the side, `zoom` a width around a
    factor of 1, `rotate` in degrees. Of `crop`: `crop_area` is a range of the share that is kept, left in its place on
    black (`pad`) or enlarged to the whole side (`resize`). Of `low_res`: `low_res_scale` is a range of the side's
    fraction; down and up each by one of `INTERPOLATIONS`. Of `photometric`: `brightness`, `contrast` and `saturation`
    are widths around a factor of 1, `hue` of a turn in fractions of the circle, in an order drawn for the batch.
    `blur_sigma` is a range in pixels, `jpeg_quality` of libjpeg's qualities.

    Sources: crop, low resolution and photometric as AdaFace publishes them (mk-minchul/AdaFace, dataset/augmenter.py:
    probability 0.2 each, area 0.2 to 1 on black, side 0.2 to 1 with interpolations drawn from five, brightness,
    contrast and saturation 0.5). **Other than there, one order of the photometric changes holds for a batch, and hue
    turns the chrominance of YIQ.**
    """

    mask: float = 0.0
    flip: float = 0.5
    move: float = 1.0
    shift: float = 0.0
    zoom: float = 0.0
    rotate: float = 0.0
    crop: float = 0.0
    crop_area: Range = (0.2, 1.0)
    crop_mode: Literal["pad", "resize"] = "pad"
    low_res: float = 0.0
    low_res_scale: Range = (0.2, 1.0)
    photometric: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    blur_sigma: Range = (0.3, 1.5)
    jpeg: float = 0.0
    jpeg_quality: Range = (30.0, 95.0)
    erase: float = 0.0

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, 3, H, W) float 0..255 -> the same shape and range; the argument is not changed."""
        images = images.clone()
        for probability, change in self._parts().values():
            if probability:
                _change_some(images, probability, change, generator)
        return images

    def alone(self) -> dict[str, Augmentation]:
        """Each part that is switched on, by the name of its probability: that part alone, on every image."""
        parts = self._parts()
        return {
            name: replace(self, **{other: float(other == name) for other in parts})
            for name, (probability, _) in parts.items()
            if probability
        }

    def _parts(self) -> dict[str, tuple[float, Callable[[Tensor, Generator], Tensor]]]:
        """Probability and change of each part, in the order in which they come."""
        moves = self.move if self.shift or self.zoom or self.rotate else 0.0
        colours = self.photometric if self.brightness or self.contrast or self.saturation or self.hue else 0.0
        return {
            "mask": (self.mask, _masked),
            "flip": (self.flip, lambda chosen, _: chosen.flip(3)),
            "move": (moves, self._moved),
            "crop": (self.crop, self._cropped),
            "low_res": (self.low_res, self._lower),
            "photometric": (colours, self._coloured),
            "grey": (self.grey, lambda chosen, _: luminance(chosen).expand(-1, 3, -1, -1)),
            "blur": (self.blur, self._blurred),
            "jpeg": (self.jpeg, self._compressed),
            "erase": (self.erase, _erased),
        }

    def _moved(self, images: Tensor, generator: Generator) -> Tensor:
        count = len(images)
        angle = _spread(count, math.radians(self.rotate), generator)
        scale = 1.0 / (1.0 + _spread(count, self.zoom, generator))
        cos, sin = angle.cos() * scale, angle.sin() * scale
        across, down = 2 * _spread(count, self.shift, generator), 2 * _spread(count, self.shift, generator)
        return _affine(images, [[cos, -sin, across], [sin, cos, down]])

    def _cropped(self, images: Tensor, generator: Generator) -> Tensor:
        count = len(images)
        area, (low, high) = _uniform(count, self.crop_area, generator), CROP_ASPECT
        aspect = _uniform(count, (math.log(low), math.log(high)), generator).exp()
        width, height = (area * aspect).sqrt().clamp(max=1.0), (area / aspect).sqrt().clamp(max=1.0)
        left, top = torch.rand(2, count, generator=generator) * torch.stack([1.0 - width, 1.0 - height])
        if self.crop_mode == "pad":
            return images * _rectangle(images, left, top, width, height)
        none = torch.zeros(count)
        return _affine(images, [[width, none, 2 * left + width - 1], [none, height, 2 * top + height - 1]])

    def _lower(self, images: Tensor, generator: Generator) -> Tensor:
        scales = _uniform(len(images), self.low_res_scale, generator).tolist()
        drawn = torch.randint(len(INTERPOLATIONS), (len(images), 2), generator=generator).tolist()
        ways = [(INTERPOLATIONS[down], INTERPOLATIONS[up]) for down, up in drawn]
        down, across = (
            low_resolution_matrices(side, [smaller_side(side, scale) for scale in scales], ways)
            for side in images.shape[2:]
        )
        return separable(images, down, across)

    def _coloured(self, images: Tensor, generator: Generator) -> Tensor:
        factors = {
            change: _spread(len(images), width, generator).to(images.device, images.dtype)[:, None, None, None]
            for change, width in (
                (_brighter, self.brightness),
                (_more_contrast, self.contrast),
                (_more_saturated, self.saturation),
                (_turned, self.hue),
            )
            if width
        }
        changes = list(factors)
        for place in torch.randperm(len(changes), generator=generator).tolist():
            images = changes[place](images, factors[changes[place]]).clamp(0.0, 255.0)
        return images

    def _blurred(self, images: Tensor, generator: Generator) -> Tensor:
        sigmas = _uniform(len(images), self.blur_sigma, generator)
        down, across = (blur_matrices(side, sigmas) for side in images.shape[2:])
        return separable(images, down, across)

    def _compressed(self, images: Tensor, generator: Generator) -> Tensor:
        return jpeg(images, _uniform(len(images), self.jpeg_quality, generator).round())


def luminance(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB -> (B, 1, H, W), weights of ITU-R BT.601."""
    red, green, blue = images.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def _change_some(
    images: Tensor, probability: float, change: Callable[[Tensor, Generator], Tensor], generator: Generator
) -> None:
    """Put `change` of each image that is drawn in its place; drawn on the CPU, nobody has to wait for the device."""
    rows = (torch.rand(len(images), generator=generator) < probability).nonzero()[:, 0]
    if len(rows):
        rows_there = rows.to(images.device)
        images[rows_there] = change(images[rows_there], generator).clamp(0.0, 255.0)


def _masked(images: Tensor, generator: Generator) -> Tensor:
    wobble = 2.0 * torch.rand(len(images), 2, 5, generator=generator) - 1.0
    return draw_masks(images, wobble, mask_colours(len(images), generator))


def _erased(images: Tensor, generator: Generator) -> Tensor:
    count = len(images)
    height, width = 0.1 + 0.35 * torch.rand(2, count, generator=generator)
    top, left = torch.rand(2, count, generator=generator) * (1.0 - torch.stack([height, width]))
    return torch.where(_rectangle(images, left, top, width, height), 127.5, images)


def _rectangle(images: Tensor, left: Tensor, top: Tensor, width: Tensor, height: Tensor) -> Tensor:
    """(B, 1, H, W) bool: pixels whose centres lie in a rectangle, given (B,) in fractions of the sides."""
    down, across = ((torch.arange(side)[None] + 0.5) / side for side in images.shape[2:])
    rows = (down >= top[:, None]) & (down < (top + height)[:, None])
    columns = (across >= left[:, None]) & (across < (left + width)[:, None])
    return (rows[:, None, :, None] & columns[:, None, None, :]).to(images.device)


def _affine(images: Tensor, rows: list[list[Tensor]]) -> Tensor:
    """Each output place p, from -1 to 1 across the image, is taken from A p + t; `rows` of [A | t] hold (B,) each."""
    theta = torch.stack([torch.stack(row, 1) for row in rows], 1).to(images.device, images.dtype)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _brighter(images: Tensor, change: Tensor) -> Tensor:
    return images * (1.0 + change)


def _more_contrast(images: Tensor, change: Tensor) -> Tensor:
    centre = luminance(images).mean((1, 2, 3), keepdim=True)
    return centre + (images - centre) * (1.0 + change)


def _more_saturated(images: Tensor, change: Tensor) -> Tensor:
    grey = luminance(images)
    return grey + (images - grey) * (1.0 + change)


def _turned(images: Tensor, change: Tensor) -> Tensor:
    """Hue: the colour without its luminance, turned by `change` of the circle in the plane of I and Q."""
    to_yiq = torch.tensor(_TO_YIQ, dtype=torch.float64)
    angle = 2 * torch.pi * change.flatten().double().cpu()
    turn = torch.zeros(len(images), 3, 3, dtype=torch.float64)
    turn[:, 0, 0] = 1.0
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 1, 2], turn[:, 2, 1] = -angle.sin(), angle.sin()
    mix = (to_yiq.inverse() @ turn @ to_yiq).to(images.device, images.dtype)
    return torch.einsum("bij,bjhw->bihw", mix, images)


def _spread(count: int, width: float, generator: Generator) -> Tensor:
    """`count` values uniform in -width .. width."""
    return _uniform(count, (-width, width), generator)


def _uniform(count: int, bounds: Range, generator: Generator) -> Tensor:
    low, high = bounds
    return low + (high - low) * torch.rand(count, generator=generator)
