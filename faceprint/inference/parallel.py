"""Batches cut into parts that threads compute side by side."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Run = Callable[[Floats], Floats]


def side_by_side(run: Run, *, threads: int, largest: int, start: Callable[[], None] | None = None) -> Run:
    """A function like `run`, rows in and rows out, that gives each of `threads` at most `largest` rows at a time.

    It waits for nobody but at the end, where the threads inside of one computation wait for each other at every layer:
    on cores that are busy otherwise that takes most of the time. `start` is called once in each thread, before this
    function returns. `run` must be safe to call from several threads.
    """
    if threads == 1:
        return lambda rows: np.concatenate([run(part) for part in _parts(rows, largest)])
    pool = ThreadPoolExecutor(threads)
    everybody = Barrier(threads)

    def begin(_: int) -> None:
        everybody.wait()  # or one quick thread would take several of these calls
        if start:
            start()

    list(pool.map(begin, range(threads)))
    return lambda rows: np.concatenate(list(pool.map(run, _parts(rows, min(largest, -(-len(rows) // threads))))))


def _parts(rows: Floats, length: int) -> list[Floats]:
    return [rows[at : at + length] for at in range(0, len(rows), length)]
