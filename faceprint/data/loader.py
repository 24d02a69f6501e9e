"""Batches for training: decoded in worker processes to uint8, in the order a `BatchOrder` gives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from faceprint.data.images import ImageError
from faceprint.data.pixels import InputSpec
from faceprint.data.sampler import BalancedOrder, BatchOrder, IdentityOrder
from faceprint.data.source import Source
from faceprint.errors import UserError

NAMES_SHOWN = 10


@dataclass(frozen=True)
class Batch:
    """Images uint8 (B, H, W, 3) RGB and labels int64 (B,). `unreadable` maps names of images that could not be read
    to the reason; each was replaced by the next readable one. `mistake` is an error that ends the training."""

    images: torch.Tensor
    labels: torch.Tensor
    unreadable: dict[str, str] = field(default_factory=dict[str, str])
    mistake: str | None = None

    def pin_memory(self) -> Batch:
        return Batch(self.images.pin_memory(), self.labels.pin_memory(), self.unreadable, self.mistake)


class _Batches(Dataset[Batch]):
    """Reads whole batches, so that a worker returns one array and its errors as data, not as tracebacks."""

    def __init__(self, source: Source, spec: InputSpec) -> None:
        self.source = source
        self.spec = spec

    def __getitems__(self, indices: list[int]) -> Batch:
        height, width = self.spec.size
        images = np.zeros((len(indices), height, width, 3), np.uint8)
        labels = np.zeros(len(indices), np.int64)
        unreadable: dict[str, str] = {}
        try:
            for row, index in enumerate(indices):
                images[row], labels[row] = self._read(index, unreadable)
            mistake = None
        except UserError as error:
            mistake = str(error)
        return Batch(torch.from_numpy(images), torch.from_numpy(labels), unreadable, mistake)

    def _read(
        self, index: int, unreadable: dict[str, str]
    ) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], int]:
        for attempt in range(len(self.source)):
            candidate = (index + attempt) % len(self.source)
            try:
                image, label = self.source[candidate]
            except ImageError as error:
                unreadable[self.source.name(candidate)] = str(error)
                continue
            self.spec.check(image, self.source.name(candidate))
            if not 0 <= label < len(self.source.class_names):
                raise UserError(
                    f"{self.source.name(candidate)}: its label is {label}, and labels lie in 0 .."
                    f" {len(self.source.class_names) - 1}, one for each identity of the data; mend the list or record"
                )
            return image, label
        raise UserError("none of the images can be read: " + "; ".join(list(unreadable.values())[:3]))


def default_workers() -> int:
    """Half of the cores, at least one, at most eight: the network needs the rest."""
    return max(1, min(8, (os.cpu_count() or 2) // 2))


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)  # one worker, one core: the parallelism is in the number of workers


def _unwrap(batch: Any) -> Batch:
    """A whole batch comes from `__getitems__`: there is nothing left to collate."""
    return batch


class Loader:
    """Iterates over the batches of `order`. Counts the images that cannot be read and stops past a limit.

    `max_unreadable` is a share of the source's images. Iterating raises `UserError` when more of them cannot be read,
    or when an image has another size than `spec` says. `unreadable` maps their names to the reasons so far.
    """

    def __init__(
        self,
        source: Source,
        order: BatchOrder | IdentityOrder | BalancedOrder,
        spec: InputSpec,
        *,
        workers: int,
        max_unreadable: float,
        pin_memory: bool = False,
    ) -> None:
        self.source = source
        self.order = order
        self.max_unreadable = max_unreadable
        self.unreadable: dict[str, str] = {}
        self._loader: DataLoader[Batch] = DataLoader(
            _Batches(source, spec),
            batch_sampler=order,
            num_workers=workers,
            collate_fn=_unwrap,
            worker_init_fn=_start_worker,
            pin_memory=pin_memory,
            # One of its own: drawing the workers' seed from the global generator would shift dropout after a resume.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            self.unreadable.update(batch.unreadable)
            if batch.mistake:
                raise UserError(batch.mistake)
            self._check_limit()
            yield batch

    def _check_limit(self) -> None:
        count = len(self.unreadable)
        if count > self.max_unreadable * len(self.source):
            reasons = "; ".join(list(self.unreadable.values())[:NAMES_SHOWN])
            raise UserError(
                f"{count} of {len(self.source)} images cannot be read, more than loader.max_unreadable="
                f"{self.max_unreadable} allows: {reasons}"
            )
