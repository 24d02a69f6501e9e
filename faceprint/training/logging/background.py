"""A logger that may be slow or fail, without the training noticing more than a warning."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from faceprint.errors import UserError
from faceprint.training.logging.run_info import Logger

LOG = logging.getLogger("faceprint")
PATIENCE_SECONDS = 60.0
"""How long the end of a training waits for a service that still has records to take."""


class Background:
    """Passes records to a logger in a thread of its own.

    Its first failure, or that of opening it, is a warning, after which it gets nothing more. A `UserError` while it is
    opened, such as a package that is missing, is raised.
    """

    def __init__(self, name: str, factory: Callable[[], Logger]) -> None:
        self._name = name
        self._records: queue.SimpleQueue[tuple[bool, Mapping[str, Any]] | None] = queue.SimpleQueue()
        self._broken = False
        logger = self._open(factory)
        self._thread = threading.Thread(target=self._work, args=(logger,), daemon=True) if logger else None
        if self._thread:
            self._thread.start()

    def _open(self, factory: Callable[[], Logger]) -> Logger | None:
        try:
            return factory()
        except UserError:
            raise
        except Exception as error:  # whatever a client of a service raises
            self._fail(error)
            return None

    def _fail(self, error: Exception) -> None:
        self._broken = True
        reason = " ".join(str(error).split())[:300]
        LOG.warning("the %s logger failed and gets nothing more; the training goes on: %s", self._name, reason)

    def _work(self, logger: Logger) -> None:
        try:
            while (item := self._records.get()) is not None:
                earlier, record = item
                (logger.recall if earlier else logger.write)(record)
            logger.close()
        except Exception as error:  # as above
            self._fail(error)

    def recall(self, record: Mapping[str, Any]) -> None:
        self._pass(True, record)

    def write(self, record: Mapping[str, Any]) -> None:
        self._pass(False, record)

    def _pass(self, earlier: bool, record: Mapping[str, Any]) -> None:
        if not self._broken:
            self._records.put((earlier, record))

    def close(self) -> None:
        """Wait until everything is written, but no longer than `PATIENCE_SECONDS`."""
        if self._thread is None:
            return
        self._records.put(None)
        self._thread.join(PATIENCE_SECONDS)
        if self._thread.is_alive():
            LOG.warning("the %s logger did not take its last records in %g s", self._name, PATIENCE_SECONDS)
