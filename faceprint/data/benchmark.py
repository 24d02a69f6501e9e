"""How fast a set can be read and decoded, and what limits that."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any

import cv2
import numpy as np

from faceprint.cores import num_cores
from faceprint.data.images import Image, ImageError, decode_image
from faceprint.data.loader import Loader
from faceprint.data.pixels import InputSpec
from faceprint.data.sampler import BatchOrder
from faceprint.data.source import Source
from faceprint.errors import UserError

WARM_UP = 4
NEAR = 0.8
"""Share of the decoder's speed from which on the loader is said to be limited by it."""


def benchmark_loading(source: Source, *, workers: int, batch_size: int, images: int) -> dict[str, Any]:
    """Images a second: `read` as stored by one process, `decode` by `workers` processes from memory with nothing around
    it, and `loader` with as many. `limit` says in words what to change. Each goes through about `images` images.

    Raises `UserError` for counts below 1, and for a set of which nothing can be read.
    """
    if min(workers, batch_size, images) < 1:
        raise UserError(f"workers, batch size and images are at least 1, got {workers}, {batch_size}, {images}")
    encoded, read = _read(source, images)
    decode = decode_rate(encoded, processes=workers, rounds=max(1, images // len(encoded)))
    height, width = decode_image(encoded[0], name=source.name(0)).shape[:2]
    loader = loader_rate(source, InputSpec(size=(height, width)), workers, batch_size, images)
    return {
        "benchmark": "data",
        "images": len(source),
        "size": [height, width],
        "mean_bytes": round(float(np.mean([len(data) for data in encoded]))),
        "workers": workers,
        "cores": num_cores(),
        "batch_size": batch_size,
        "images_per_second": {"read": round(read), "decode": round(decode), "loader": round(loader)},
        "loader_share_of_decoder": round(loader / decode, 3),
        "limit": _limit(read * workers, decode, loader, workers),
    }


def _limit(read: float, decode: float, loader: float, workers: int) -> str:
    if loader >= NEAR * decode:
        if workers < num_cores():
            return f"decoding; {num_cores()} cores allow more loader.workers, a GPU loader.decoder=nvimagecodec"
        return "decoding, on every core there is; a GPU allows loader.decoder=nvimagecodec, memory loader.cache=decoded"
    if read < decode:
        return "reading; pack the images into one file, or keep them in memory by loader.cache=encoded"
    return "neither reading nor decoding alone: other programs on these cores, or more workers than cores"


def _read(source: Source, images: int) -> tuple[list[bytes], float]:
    """Up to `images` images as stored, in random order, and how many a second."""
    order = BatchOrder(num_images=len(source), batch_size=min(images, len(source)), seed=0, first=0, last=1)
    found: list[bytes] = []
    started = time.perf_counter()
    for index in next(iter(order)):
        try:
            found.append(source.encoded(index))
        except ImageError:
            continue
    seconds = time.perf_counter() - started
    found = [data for data in found if _decodes(data)]
    if not found:
        raise UserError(f"{source.name(0)} and the others that were tried cannot be read: nothing to measure")
    return found, len(found) / seconds


def _decodes(data: bytes) -> bool:
    try:
        decode_image(data, name="")
    except ImageError:
        return False
    return True


def loader_rate(source: Source, spec: InputSpec, workers: int, batch_size: int, images: int) -> float:
    """Images a second of `Loader`, from its fifth batch on."""
    batches = max(1, images // batch_size) + WARM_UP
    order = BatchOrder(num_images=len(source), batch_size=batch_size, seed=1, first=0, last=batches)
    return rate(iter(Loader(source, order, spec, workers=workers, max_unreadable=1.0)), batch_size)


def rate(batches: Any, batch_size: int) -> float:
    """Images a second of an iterator over batches, the first four not counted."""
    for _ in islice(batches, WARM_UP):
        pass
    started = time.perf_counter()
    count = sum(1 for _ in batches)
    return count * batch_size / (time.perf_counter() - started)


def _decode(data: bytes) -> Image:
    return decode_image(data, name="")


def decode_rate(
    encoded: Sequence[bytes], *, processes: int, rounds: int, decode: Callable[[bytes], Any] = _decode
) -> float:
    """Images a second of `decode` in a tight loop over images in memory, in several processes at a time, added up."""
    context = multiprocessing.get_context()
    barrier = context.Barrier(processes)
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    started = [
        context.Process(target=_decode_all, args=(encoded, rounds, decode, barrier, answer), daemon=True)
        for _, answer in pipes
    ]
    for process in started:
        process.start()
    rates = [question.recv() for question, _ in pipes]
    for process in started:
        process.join()
    return sum(rates)


def _decode_all(
    encoded: Sequence[bytes], rounds: int, decode: Callable[[bytes], Any], barrier: Barrier, answer: Connection
) -> None:
    cv2.setNumThreads(0)
    barrier.wait()
    started = time.perf_counter()
    for _ in range(rounds):
        for data in encoded:
            decode(data)
    answer.send(rounds * len(encoded) / (time.perf_counter() - started))
