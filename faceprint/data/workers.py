"""Worker processes that fill batches in shared memory, in the order in which they are asked for.

PyTorch's DataLoader makes new shared memory for every batch, which the system must zero and map page by page in two
processes; the ring is made once (benchmarks/loader.py has both, and the decoder alone, beside each other).
Only the number of a slot and what went wrong go through a pipe.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import NoReturn, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from faceprint.data.shared import SharedArray, shared_array
from faceprint.errors import WorkerDied

_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True)
class Reply:
    """What is known of a batch besides its pixels and labels.

    `unreadable` maps names of images that could not be read to the reason; each was replaced by the next readable one.
    `mistake` is an error that ends the training. `encoded` are the images where they are to be decoded elsewhere.
    """

    unreadable: dict[str, str] = field(default_factory=dict[str, str])
    mistake: str | None = None
    encoded: list[bytes] = field(default_factory=list[bytes])


class Fill(Protocol):
    """Reads the images `indices` (B,) into `images` uint8 (B, H, W, 3) and `labels` int64 (B,). Picklable."""

    def __call__(self, indices: NDArray[np.int64], images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Reply: ...


@dataclass(frozen=True)
class Filled:
    """A batch; `indices`, `images` uint8 (B, H, W, 3) and `labels` int64 (B,) hold until the next one is asked for."""

    indices: NDArray[np.int64]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    reply: Reply


@dataclass(frozen=True)
class _Ring:
    indices: SharedArray
    images: SharedArray
    labels: SharedArray

    def slot(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
        place = number % self.indices.shape[0]
        return self.indices.array[place], self.images.array[place], self.labels.array[place]


def _make_ring(context: BaseContext, slots: int, batch: int, image: tuple[int, ...]) -> _Ring:
    return _Ring(
        indices=shared_array(context, (slots, batch), np.int64),
        images=shared_array(context, (slots, batch, *image), np.uint8),
        labels=shared_array(context, (slots, batch), np.int64),
    )


def fill_here(fill: Fill, tasks: Iterable[list[int]], image: tuple[int, ...]) -> Iterator[Filled]:
    """The batches of `tasks`, each a list of indices, filled in this process."""
    for task in tasks:
        batch = np.array(task), np.zeros((len(task), *image), np.uint8), np.zeros(len(task), np.int64)
        yield Filled(*batch, fill(*batch))


def fill_in_workers(
    fill: Fill,
    tasks: Iterable[list[int]],
    image: tuple[int, ...],
    *,
    workers: int,
    prefetch: int,
    start_method: str | None = None,
) -> Iterator[Filled]:
    """The same in `workers` processes, which are up to `prefetch` batches each ahead of what is asked for.

    All tasks have one length. Memory is (workers * prefetch + 2) batches. `start_method` is that of `multiprocessing`;
    None: the system's. Raises `WorkerDied` where a process ends. The processes end with the iterator, and with this
    process however that ends.
    """
    todo = iter(tasks)
    first = next(todo, None)
    if first is None:
        return
    context = multiprocessing.get_context(start_method)
    ahead = workers * prefetch
    # One slot for what the caller holds, one for what it held until now: a copy to a device may still be on its way.
    ring = _make_ring(context, ahead + 2, len(first), image)
    pool = _Pool(context, workers, fill, ring)
    try:
        started, done = 0, 0
        todo = chain([first], todo)
        while True:
            for task in islice(todo, done + ahead - started):
                pool.start(started, task)
                started += 1
            if done == started:
                return
            reply = pool.finish(done)
            yield Filled(*ring.slot(done), reply)
            done += 1
    finally:
        pool.close()


@dataclass(frozen=True, eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection
    batches: deque[int] = field(default_factory=deque[int])
    """The numbers of those it has to do, in the order in which it does them."""


class _Pool:
    """A batch is the work of the process that has least to do: cores need not be equally fast, nor images."""

    def __init__(self, context: BaseContext, workers: int, fill: Fill, ring: _Ring) -> None:
        self.ring = ring
        self.workers: list[_Worker] = []
        self.replies: dict[int, Reply] = {}
        for number in range(workers):
            ours, theirs = context.Pipe()
            name = f"data worker {number}"
            process: BaseProcess = context.Process(  # pyright: ignore[reportAttributeAccessIssue]
                target=_work, args=(fill, ring, ours, theirs), name=name, daemon=True
            )
            process.start()
            theirs.close()
            self.workers.append(_Worker(process, ours))

    def start(self, number: int, task: list[int]) -> None:
        self.ring.slot(number)[0][:] = task
        self._take_replies(timeout=0)
        worker = min(self.workers, key=lambda one: len(one.batches))
        worker.batches.append(number)
        with suppress(BrokenPipeError, ConnectionResetError):  # one that died is named when replies are taken
            worker.pipe.send(number)

    def finish(self, number: int) -> Reply:
        while number not in self.replies:
            self._take_replies(timeout=None)
        return self.replies.pop(number)

    def _take_replies(self, timeout: float | None) -> None:
        """All that are there; the first is waited for as `wait` does. Raises `WorkerDied`."""
        busy = [worker for worker in self.workers if worker.batches]
        ready = wait([end for worker in busy for end in (worker.pipe, worker.process.sentinel)], timeout)
        for worker in busy:
            if worker.pipe in ready:
                self._take_reply(worker)
            elif worker.process.sentinel in ready:
                self._bury(worker)

    def _take_reply(self, worker: _Worker) -> None:
        try:
            reply: Reply = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            self._bury(worker)
        else:
            self.replies[worker.batches.popleft()] = reply

    def _bury(self, worker: _Worker) -> NoReturn:
        worker.process.join(_PATIENCE_SECONDS)
        raise WorkerDied(_obituary(worker.process, worker.batches[0]))

    def close(self) -> None:
        for worker in self.workers:
            worker.pipe.close()
        for worker in self.workers:
            worker.process.join(_PATIENCE_SECONDS)
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()


def _obituary(process: BaseProcess, batch: int) -> str:
    code = process.exitcode
    if code is None or code >= 0:
        how, why = f"ended with status {code}", "what it printed above says why"
    else:
        name = _signal_name(-code)
        how = f"was killed by {name}"
        why = {
            "SIGKILL": "most likely the system ran out of memory: use fewer loader.workers, a smaller"
            " loader.prefetch or loader.cache=none",
            "SIGBUS": "most likely /dev/shm is full: give a container more of it (docker run --shm-size), or use"
            " fewer loader.workers",
            "SIGTERM": "somebody, or the batch system, asked it to end",
        }.get(name, "it crashed inside a library; loader.workers=0 shows where")
    return f"{process.name} (process {process.pid}) {how} while it read batch {batch}: {why}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # of the real-time signals only the first and last have names
        return f"signal {number}"


def _work(fill: Fill, ring: _Ring, theirs: Connection, ours: Connection) -> None:
    theirs.close()  # so that the end of the main process ends this one: nobody else holds the other end of the pipe
    # Ctrl-C, and what asks a training to stop, are for the main process, which then closes the pipe.
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGTERM)):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)  # one worker, one core: the parallelism is in the number of workers
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            ours.send(fill(*ring.slot(ours.recv())))
