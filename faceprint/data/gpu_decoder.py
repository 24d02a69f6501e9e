"""Decoding on the GPU, where the CPU's cores are too few: encoded bytes of a batch in, uint8 pixels there out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from faceprint.errors import UserError


class Decoded(NamedTuple):
    """`pixels` uint8 (B, H, W, 3) RGB on the device; rows in `failed` are to be filled by somebody else."""

    pixels: Tensor
    failed: list[int]


class Decoder(Protocol):
    """Decodes a batch of encoded images of one `size` (height, width). An empty one, one it cannot decode and one of
    another size fail; nothing is raised for what is in the bytes."""

    def __call__(self, encoded: Sequence[bytes], size: tuple[int, int]) -> Decoded: ...


class DeviceDecoder:
    """A `Decoder` on `device` over an object with nvImageCodec's `decode`: a list of bytes -> a list of images, None
    where one could not be decoded; `torch.as_tensor` takes them as uint8 (H, W, 3) RGB, without a copy.

    Its JPEG decoder is another than the CPU's: pixels may differ by a few units in 255, and the bits of a training with
    them.
    """

    def __init__(self, codec: Any, device: torch.device) -> None:
        self.codec = codec
        self.device = device

    def __call__(self, encoded: Sequence[bytes], size: tuple[int, int]) -> Decoded:
        pixels = torch.zeros(len(encoded), *size, 3, dtype=torch.uint8, device=self.device)
        present = [row for row, data in enumerate(encoded) if data]
        failed = [row for row, data in enumerate(encoded) if not data]
        images = self.codec.decode([encoded[row] for row in present]) if present else []
        for row, image in zip(present, images, strict=True):
            if image is None or tuple(image.shape) != tuple(pixels.shape[1:]):
                failed.append(row)
            else:
                pixels[row] = torch.as_tensor(image, device=self.device)
        return Decoded(pixels, sorted(failed))


def nvimagecodec(device: torch.device) -> DeviceDecoder:
    """NVIDIA's nvImageCodec on a CUDA `device`. Raises `UserError` without CUDA, and where it is not installed."""
    if device.type != "cuda":
        raise UserError(f"loader.decoder=nvimagecodec needs CUDA, this run is on {device}; use loader.decoder=cpu")
    try:
        from nvidia import nvimgcodec  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "loader.decoder=nvimagecodec needs nvImageCodec: pip install 'faceprint[gpu]', or use loader.decoder=cpu"
        ) from error
    return DeviceDecoder(nvimgcodec.Decoder(device_id=device.index or 0), device)
