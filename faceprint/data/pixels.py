"""What a network takes in: size, colour order and pixel normalisation. The one home of these facts."""

from __future__ import annotations

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


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """How uint8 RGB images become a network's input: resize never, reorder colours, then (x - mean) / std.

    `size` is (height, width) in pixels; `mean` and `std` are in units of a 0..255 pixel and hold for all channels.
    """

    size: tuple[int, int] = (112, 112)
    colour: Literal["rgb", "bgr"] = "rgb"
    mean: float = 127.5
    std: float = 127.5

    def normalize(self, pixels: Array) -> Array:
        """Float pixels 0..255 -> network input, elementwise: (x - mean) / std. Any shape."""
        return (pixels - self.mean) / self.std

    def prepare(self, images: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """uint8 (B, H, W, 3) RGB -> float32 (B, 3, H, W) in this network's colour order and range."""
        if self.colour == "bgr":
            images = images[..., ::-1]
        return np.ascontiguousarray(self.normalize(images.astype(np.float32)).transpose(0, 3, 1, 2))

    def check(self, image: Image, name: str) -> None:
        """Raise `UserError` unless `image` is uint8 (height, width, 3) of this size."""
        height, width = self.size
        if image.dtype != np.uint8 or image.shape != (height, width, 3):
            given = "x".join(map(str, image.shape))
            raise UserError(
                f"{name}: got {given} {image.dtype}, the network takes {height}x{width}x3 uint8 (height x width, RGB);"
                " crop faces with `faceprint data align SRC DST` first"
            )
