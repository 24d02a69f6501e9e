"""Work cut into parts that processes do side by side."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

import cv2

from faceprint.errors import WorkerDied

Item = TypeVar("Item")
Result = TypeVar("Result")

_work: Callable[[Any], Any] | None = None


def in_processes(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """`map(work, items)`, in order, by spawned processes; by this one for 1 worker or a single item.

    `work` is pickled once for each process, so that it may hold a large source. Raises what `work` raises, and
    `WorkerDied` where a process is lost.
    """
    if workers == 1 or len(items) < 2:
        yield from map(work, items)
        return
    pool = ProcessPoolExecutor(min(workers, len(items)), get_context("spawn"), _start, (work,))
    try:
        yield from pool.map(_run, items)
    except BrokenProcessPool as error:
        raise WorkerDied(
            "a worker process died (killed, out of memory, or crashed on an image); run the same again with fewer"
            f" workers than {workers} if memory ran out"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    cv2.setNumThreads(1)  # the processes share the cores already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the main process ends the pool


def _run(item: Any) -> Any:
    assert _work is not None, "the process was not started by `in_processes`"
    return _work(item)
