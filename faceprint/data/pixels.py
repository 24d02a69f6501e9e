"""What a network takes in: size, colour order and pixel normalisation. The one home of these facts."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from faceprint.data.images import Image
from faceprint.errors import UserError

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray[Any, np.dtype[np.float32]], torch.Tensor)
else:
    Array = TypeVar("Array")


_MAX_SIDE = 4096


def parse_size(text: str) -> tuple[int, int]:
    """ "112x96" -> (112, 96), height and width in pixels. Raises `UserError`."""
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text.lower())
    if match is None:
        raise UserError(f"size {text!r}: give height x width in pixels, such as 112x112 or 112x96")
    return int(match[1]), int(match[2])


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """How uint8 RGB images become a network's input: resize never, reorder colours, then (x - mean) / std.

    `size` is (height, width) in pixels; `mean` and `std` are in units of a 0..255 pixel and hold for all channels.
    Raises `UserError` for a size, mean or std that no image could be prepared with.
    """

    size: tuple[int, int] = (112, 112)
    colour: Literal["rgb", "bgr"] = "rgb"
    mean: float = 127.5
    std: float = 127.5

    def __post_init__(self) -> None:
        height, width = self.size
        if not (1 <= height <= _MAX_SIDE and 1 <= width <= _MAX_SIDE):
            raise UserError(f"input size {height}x{width}: height and width are 1 to {_MAX_SIDE} pixels")
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise UserError(f"input mean {self.mean} and std {self.std}: both are finite numbers, std above 0")

    def normalize(self, pixels: Array) -> Array:
        """Float pixels 0..255 -> network input, elementwise: (x - mean) / std. Any shape."""
        return (pixels - self.mean) / self.std

    def prepare(self, images: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """uint8 (B, H, W, 3) RGB -> float32 (B, 3, H, W) in this network's colour order and range."""
        if self.colour == "bgr":
            images = images[..., ::-1]
        return np.ascontiguousarray(self.normalize(images.astype(np.float32)).transpose(0, 3, 1, 2))

    def check(self, image: Image, name: object) -> None:
        """Raise `UserError` unless `image` is uint8 (height, width, 3) of this size; its message has `name` as text."""
        height, width = self.size
        if image.dtype != np.uint8 or image.shape != (height, width, 3):
            given = "x".join(map(str, image.shape))
            raise UserError(
                f"{name}: got {given} {image.dtype}, the network takes {height}x{width}x3 uint8 (height x width, RGB);"
                " crop faces with `faceprint data align SRC DST` first"
            )
