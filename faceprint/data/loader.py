"""Batches for training: uint8, in the order a sampler gives, decoded in worker processes or on the device."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceprint.cores import num_cores
from faceprint.data.gpu_decoder import Decoder
from faceprint.data.images import Image, ImageError, check_encoded
from faceprint.data.pixels import InputSpec
from faceprint.data.sampler import Order
from faceprint.data.source import ImageName, Source
from faceprint.data.workers import Filled, Reply, fill_here, fill_in_workers
from faceprint.errors import UserError

NAMES_SHOWN = 10
GIVE_UP_AFTER = 1000
"""Images in a row that cannot be read: then a disk is gone, and trying millions more would look like a hang."""


@dataclass(frozen=True)
class Batch:
    """Images uint8 (B, H, W, 3) RGB and labels int64 (B,). On the CPU they hold until the next batch is asked for.

    `indices` int64 (B,) are the places in the source that were asked for; one that could not be read was replaced.
    """

    images: Tensor
    labels: Tensor
    indices: NDArray[np.int64]


@dataclass(frozen=True)
class _Pixels:
    """Decodes into the batch. Errors are data, not tracebacks."""

    source: Source
    spec: InputSpec

    def __call__(self, indices: NDArray[np.int64], images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Reply:
        unreadable: dict[str, str] = {}
        try:
            for row, index in enumerate(indices.tolist()):
                images[row], labels[row] = self.read(index, unreadable)
        except UserError as error:
            return Reply(unreadable, str(error))
        return Reply(unreadable)

    def read(self, index: int, unreadable: dict[str, str]) -> tuple[Image, int]:
        """Image `index`, or the first readable one after it; those before it go into `unreadable`."""
        tried = min(len(self.source), GIVE_UP_AFTER)
        for candidate in ((index + step) % len(self.source) for step in range(tried)):
            try:
                image, label = self.source[candidate]
            except ImageError as error:
                unreadable[self.source.name(candidate)] = str(error)
                continue
            self.spec.check(image, ImageName(self.source, candidate))
            _check_label(self.source, candidate, label)
            return image, label
        raise UserError(f"none of {tried:,} images in a row can be read: " + "; ".join(list(unreadable.values())[:3]))


def _check_label(source: Source, index: int, label: int) -> None:
    if not 0 <= label < len(source.class_names):
        raise UserError(
            f"{source.name(index)}: its label is {label}, and labels lie in 0 .. {len(source.class_names) - 1}, one for"
            " each identity of the data; mend the list or record"
        )


@dataclass(frozen=True)
class _Encoded:
    """Reads the batch as it is stored, for a decoder on the device; what cannot be read is left empty."""

    source: Source

    def __call__(self, indices: NDArray[np.int64], images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Reply:
        labels[:] = self.source.labels[indices]
        try:
            for index, label in zip(indices.tolist(), labels.tolist(), strict=True):
                _check_label(self.source, index, label)
        except UserError as error:
            return Reply(mistake=str(error))
        return Reply(encoded=[self.read(index) for index in indices.tolist()])

    def read(self, index: int) -> bytes:
        try:
            data = self.source.encoded(index)
            # What states no size may be gigabytes: `decode_image` refuses it, or knows it for a `.npy`.
            return data if check_encoded(data, name="") else b""
        except ImageError:
            return b""


def default_workers() -> int:
    """Half of the cores, at least one, at most eight: the network needs the rest."""
    return max(1, min(8, num_cores() // 2))


@dataclass
class Loader:
    """Iterates over the batches of `order`. Counts the images that cannot be read and stops past a limit.

    `workers` processes read ahead by `prefetch` batches each; 0: this process reads. `max_unreadable` is a share of the
    source's images. With a `decoder` the workers read only, and it makes the pixels, on its device; what it cannot
    decode the CPU does. The batches do not depend on `workers`, `prefetch` and `pin_memory`.

    Iterating raises `UserError` when more images cannot be read, or when one has another size than `spec` says, and
    `WorkerDied` when a process ends. `unreadable` maps the names of those that cannot be read to the reasons, so far.
    """

    source: Source
    order: Order
    spec: InputSpec
    workers: int
    max_unreadable: float
    prefetch: int = 2
    pin_memory: bool = False
    decoder: Decoder | None = None
    start_method: str | None = None
    unreadable: dict[str, str] = field(default_factory=dict[str, str])

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Generator[Batch]:
        for filled in self._filled():
            batch = self._on_the_device(self.decoder, filled) if self.decoder else self._from_memory(filled)
            self.unreadable.update(filled.reply.unreadable)
            if filled.reply.mistake:
                raise UserError(filled.reply.mistake)
            self._check_limit()
            yield batch

    def _filled(self) -> Iterator[Filled]:
        image = (0,) if self.decoder else (*self.spec.size, 3)
        fill = _Encoded(self.source) if self.decoder else _Pixels(self.source, self.spec)
        if self.workers == 0:
            return fill_here(fill, self.order, image)
        return fill_in_workers(
            fill,
            self.order,
            image,
            workers=self.workers,
            prefetch=self.prefetch,
            start_method=self.start_method,
        )

    def _from_memory(self, filled: Filled) -> Batch:
        images = torch.from_numpy(filled.images)
        labels = torch.from_numpy(filled.labels.copy())
        return Batch(images.pin_memory() if self.pin_memory else images, labels, filled.indices.copy())

    def _on_the_device(self, decode: Decoder, filled: Filled) -> Batch:
        images, labels = decode(filled.reply.encoded, self.spec.size), filled.labels.copy()
        by_cpu = _Pixels(self.source, self.spec)
        for row in images.failed:
            pixels, labels[row] = by_cpu.read(int(filled.indices[row]), filled.reply.unreadable)
            images.pixels[row] = torch.from_numpy(pixels)
        return Batch(images.pixels, torch.from_numpy(labels), filled.indices.copy())

    def _check_limit(self) -> None:
        count = len(self.unreadable)
        if count > self.max_unreadable * len(self.source):
            reasons = "; ".join(list(self.unreadable.values())[:NAMES_SHOWN])
            raise UserError(
                f"{count} of {len(self.source)} images cannot be read, more than loader.max_unreadable="
                f"{self.max_unreadable} allows: {reasons}"
            )
