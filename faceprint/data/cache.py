"""A whole small set in memory that the data workers share."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from faceprint.data.images import Image, ImageError, decode_image
from faceprint.data.pixels import InputSpec
from faceprint.data.shared import SharedArray, shared_array, shared_memory_left
from faceprint.data.source import ImageName, Source
from faceprint.errors import UserError
from faceprint.memory import free_memory

SAMPLED = 200
MOST_OF_FREE = 0.8
_READERS = 8
_CHUNK_BYTES = 2**26


def cached(source: Source, kind: Literal["none", "encoded", "decoded"], spec: InputSpec) -> Source:
    """`source` itself, or one that gives the same from memory: `encoded` reads the whole set now, `decoded` keeps the
    pixels of each image from its first use on, whichever process that is.

    Raises `UserError` before anything is read where that would take more than 80 % of the memory that is free.
    """
    if kind == "none":
        return source
    needed = len(source) * spec.size[0] * spec.size[1] * 3 if kind == "decoded" else _encoded_bytes(source)
    _check(needed, kind)
    store = _empty_decoded(source, spec) if kind == "decoded" else _fill_encoded(source)
    return CachedSource(source, store)


def _encoded_bytes(source: Source) -> int:
    """An estimate by the sizes of up to 200 images spread over the set."""
    chosen = np.linspace(0, len(source) - 1, min(SAMPLED, len(source))).astype(int)
    return round(float(np.mean([len(_stored(source, int(index))) for index in chosen])) * len(source))


def _check(needed: int, kind: str) -> None:
    limits = {"are free": free_memory(), "/dev/shm has left (docker run --shm-size sets it)": shared_memory_left()}
    where, free = min(limits.items(), key=lambda limit: math.inf if limit[1] is None else limit[1])
    if free is not None and needed > MOST_OF_FREE * free:
        raise UserError(
            f"loader.cache={kind} needs about {needed / 2**30:.2f} GiB, and may take {MOST_OF_FREE:.0%} of the"
            f" {free / 2**30:.2f} GiB that {where}; use {'encoded or ' if kind == 'decoded' else ''}none"
        )


def _stored(source: Source, index: int) -> bytes:
    """Image `index` as it is stored; empty where it cannot be read."""
    try:
        return source.encoded(index)
    except ImageError:
        return b""


class _Store(Protocol):
    def image(self, index: int) -> Image: ...

    def encoded(self, index: int) -> bytes: ...


@dataclass(frozen=True)
class CachedSource:
    """A `Source` that takes its images from `store` and all else from `source`."""

    source: Source
    store: _Store

    @property
    def class_names(self) -> Sequence[str]:
        return self.source.class_names

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.source.labels

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        return self.store.image(index), int(self.labels[index])

    def encoded(self, index: int) -> bytes:
        return self.store.encoded(index)

    def stored_path(self, index: int) -> str:
        return self.source.stored_path(index)

    def name(self, index: int) -> str:
        return self.source.name(index)


@dataclass(frozen=True)
class _Encoded:
    """`places` int64 (N, 3): chunk, first byte and length of every image; length 0 where it could not be read."""

    source: Source
    chunks: Sequence[SharedArray]
    places: SharedArray

    def image(self, index: int) -> Image:
        return decode_image(self.encoded(index), name=ImageName(self.source, index))

    def encoded(self, index: int) -> bytes:
        chunk, start, length = self.places.array[index].tolist()
        if not length:
            return self.source.encoded(index)  # which says why it cannot be read
        return self.chunks[chunk].array[start : start + length].tobytes()


def _fill_encoded(source: Source) -> _Encoded:
    context = multiprocessing.get_context()
    places = shared_array(context, (len(source), 3), np.int64)
    chunks: list[SharedArray] = []
    waiting: list[bytes] = []

    def put_away() -> None:
        chunk = shared_array(context, (sum(map(len, waiting)),), np.uint8)
        chunk.array[:] = np.frombuffer(b"".join(waiting), np.uint8)
        chunks.append(chunk)
        waiting.clear()

    start = 0
    for index, data in enumerate(_read_all(source)):
        if start + len(data) > _CHUNK_BYTES and waiting:
            put_away()
            start = 0
        places.array[index] = len(chunks), start, len(data)
        waiting.append(data)
        start += len(data)
    put_away()
    return _Encoded(source, chunks, places)


def _read_all(source: Source) -> Iterator[bytes]:
    """All images as they are stored, in order; several are read at a time, as disks and networks like it."""
    with ThreadPoolExecutor(_READERS) as readers:
        for first in range(0, len(source), 1024):
            indices = range(first, min(first + 1024, len(source)))
            yield from readers.map(lambda index: _stored(source, index), indices)


@dataclass(frozen=True)
class _Decoded:
    """`pixels` uint8 (N, H, W, 3), of which those with `there` (N,) hold. Two processes that decode one image at a
    time write the same bytes."""

    source: Source
    pixels: SharedArray
    there: SharedArray

    def image(self, index: int) -> Image:
        pixels, there = self.pixels.array, self.there.array
        if not there[index]:
            image, _ = self.source[index]
            if image.shape != pixels.shape[1:]:
                return image  # the loader says what is wrong with it
            pixels[index] = image
            there[index] = 1
        return pixels[index]

    def encoded(self, index: int) -> bytes:
        return self.source.encoded(index)


def _empty_decoded(source: Source, spec: InputSpec) -> _Decoded:
    context = multiprocessing.get_context()
    pixels = shared_array(context, (len(source), *spec.size, 3), np.uint8)
    return _Decoded(source, pixels, shared_array(context, (len(source),), np.uint8))
