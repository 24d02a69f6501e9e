"""Where batches of work are done: processes of this machine, or a Ray cluster of many."""

from __future__ import annotations

import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

import cv2

from faceprint.data.extras import require
from faceprint.errors import UserError, WorkerDied

Batch = TypeVar("Batch")
Outcome = TypeVar("Outcome")

_BATCHES_A_WORKER = 4
"""Handed out ahead of the outcome that is waited for, so that a slow batch keeps no worker waiting."""
_RETRIES = 3
"""How often Ray does a batch again whose worker was lost."""
_OBJECT_STORE_BYTES = 128 << 20
_CONNECT_SECONDS = 10


class Executor(Protocol):
    """Does batches of work, `workers` at a time or more."""

    @property
    def workers(self) -> int: ...

    def map_batches(
        self, function: Callable[[Batch], Outcome], batches: Iterable[Batch]
    ) -> Generator[Outcome, None, None]:
        """`function(batch)` for each batch, in order, each exactly once. All are pickled, the function once a process.

        Raises `WorkerDied` where a worker was lost for good, and what `function` raises.
        """
        ...


@dataclass(frozen=True)
class Processes:
    """`workers` processes of this machine, spawned: a script needs the usual `if __name__ == "__main__":`.

    One worker, or a single batch, is this process itself. A lost process ends the work.
    """

    workers: int = 1

    def __post_init__(self) -> None:
        _check_workers(self.workers)

    def map_batches(
        self, function: Callable[[Batch], Outcome], batches: Iterable[Batch]
    ) -> Generator[Outcome, None, None]:
        batches = iter(batches)
        first = list(islice(batches, 2))
        batches = chain(first, batches)
        if self.workers == 1 or len(first) < 2:
            yield from map(function, batches)
            return
        pool = ProcessPoolExecutor(self.workers, get_context("spawn"), _start_worker, (function,))
        try:
            futures = (pool.submit(_run, batch) for batch in batches)
            yield from (future.result() for future in _ahead(futures, _BATCHES_A_WORKER * self.workers))
        except BrokenProcessPool as error:
            raise WorkerDied(
                "a worker process died (killed, out of memory, or crashed on an image); run the same again to go "
                f"on, with fewer workers than {self.workers} if memory ran out"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class RayCluster:
    """The workers of a Ray cluster (extra `ray`).

    `address`: that of its head, `HOST:PORT`; `auto` for the one that this machine belongs to; `local` starts one of
    `workers` processes here and ends it afterwards. Each worker machine needs this package and the same paths. A batch
    whose worker is lost is done again, up to three times. Raises `UserError` where there is no such cluster.
    """

    address: str
    workers: int = 1

    def __post_init__(self) -> None:
        _check_workers(self.workers)

    def map_batches(
        self, function: Callable[[Batch], Outcome], batches: Iterable[Batch]
    ) -> Generator[Outcome, None, None]:
        ray = require("ray", "ray", "Ray clusters")
        with _connected(ray, self):
            remote = ray.remote(max_retries=_RETRIES)(_in_worker)
            shared = ray.put(function)
            width = max(1, int(ray.cluster_resources().get("CPU", self.workers)))
            results = (remote.remote(shared, batch) for batch in batches)
            for result in _ahead(results, _BATCHES_A_WORKER * width):
                yield _fetch(ray, result)


def _check_workers(workers: int) -> None:
    if workers < 1:
        raise UserError(f"workers {workers}: give 1 or more")


def _ahead(started: Iterable[Outcome], count: int) -> Iterator[Outcome]:
    """The items of `started` in order, `count` of them drawn ahead of the one given."""
    waiting: deque[Outcome] = deque()
    for item in started:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


_function: Callable[[Any], Any] | None = None


def _start_worker(function: Callable[[Any], Any]) -> None:
    """Keep what the process is for, which is so pickled once a process: it may hold a large source."""
    global _function
    _function = function
    cv2.setNumThreads(1)  # the processes share the cores already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the main process ends the pool


def _run(batch: Any) -> Any:
    assert _function is not None, "`_start_worker` ran first"
    return _function(batch)


def _in_worker(function: Callable[[Batch], Outcome], batch: Batch) -> Outcome:
    cv2.setNumThreads(1)
    return function(batch)


@contextmanager
def _connected(ray: Any, cluster: RayCluster) -> Generator[None]:
    """Ray, running inside; what was running before stays."""
    if ray.is_initialized():
        yield
        return
    _refuse_unreachable(cluster.address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers otherwise
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # one error is raised, the others need no print
    local = {"num_cpus": cluster.workers, "object_store_memory": _OBJECT_STORE_BYTES, "include_dashboard": False}
    try:
        ray.init(
            cluster.address, log_to_driver=False, logging_level="ERROR", **(local if cluster.address == "local" else {})
        )
    except Exception as error:  # so Ray calls what has no better name, such as a node that started too slowly
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"Ray: no cluster at {cluster.address!r} ({reason}); give HOST:PORT, auto or local") from error
    try:
        yield
    finally:
        ray.shutdown()


def _refuse_unreachable(address: str) -> None:
    """Raise `UserError` where nobody listens at HOST:PORT: Ray itself would wait for very long."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"Ray address {address!r}: give HOST:PORT, auto or local")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(f"Ray: nothing answers at {address} ({error}); give HOST:PORT, auto or local") from error


def _fetch(ray: Any, result: Any) -> Any:
    try:
        return ray.get(result)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None  # what the function raised, without the worker's traceback in its text
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[0]
        raise WorkerDied(
            f"a batch was lost with its worker {_RETRIES + 1} times ({reason}); run the same again to go on"
        ) from error
