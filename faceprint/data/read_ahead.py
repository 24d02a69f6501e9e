"""Encoded images read by several threads at once and given in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from faceprint.data.digest import image_digest
from faceprint.data.images import ImageError, check_encoded, decode_image
from faceprint.data.source import Source

UPDATE_EVERY = 64
"""Images between two words of how far the work is: a bar for each would take longer than reading it."""
_CHUNK = 16
_CHUNKS_AHEAD = 4  # of each thread: what is in memory is bounded, however slow the writer


@dataclass(frozen=True)
class Encoded:
    """Image `index`: its bytes and their `image_digest`; or, with neither, why it cannot be read."""

    index: int
    data: bytes = b""
    digest: bytes = b""
    error: str | None = None


def read_ahead(
    source: Source, class_names: Sequence[str], *, start: int = 0, workers: int, decode: bool = False
) -> Iterator[Encoded]:
    """Images `start` … of `source`, in order, read by `workers` threads; `class_names` go into the digests.

    An empty or truncated image is an error; `decode` decodes each to see whether it can be.
    """
    read = partial(_read, source, class_names, decode)
    chunks = (range(at, min(at + _CHUNK, len(source))) for at in range(start, len(source), _CHUNK))
    pool = ThreadPoolExecutor(workers)
    ahead: deque[Future[list[Encoded]]] = deque()
    try:
        for chunk in chunks:
            ahead.append(pool.submit(read, chunk))
            if len(ahead) > workers * _CHUNKS_AHEAD:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(source: Source, class_names: Sequence[str], decode: bool, indices: range) -> list[Encoded]:
    return [_read_one(source, class_names, decode, index) for index in indices]


def _read_one(source: Source, class_names: Sequence[str], decode: bool, index: int) -> Encoded:
    try:
        data = source.encoded(index)
        (decode_image if decode else check_encoded)(data, name=source.name(index))
    except ImageError as error:
        return Encoded(index, error=str(error))
    return Encoded(index, data, image_digest(class_names[int(source.labels[index])], data))
