"""A file that lines are added to while a training runs."""

from __future__ import annotations

import logging
import os
from pathlib import Path

LOG = logging.getLogger("faceprint")


class AppendedFile:
    """Adds text to the end of a file; each piece is complete as soon as it is written.

    A disk that is full loses nothing: what could not be written is kept, said once, and written when there is room.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._waiting = b""
        self._said = False

    def add(self, text: str) -> None:
        self._waiting += text.encode()
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._file, self._waiting) :]
        except OSError as error:
            if not self._said:
                LOG.warning("%s: cannot be written (%s); its lines are kept in memory", self._path, error.strerror)
            self._said = True

    def close(self) -> None:
        os.close(self._file)
