"""How far a set that is being written has come, kept so that a killed run goes on from there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from faceprint.errors import UserError

try:
    import fcntl
except ImportError:  # on Windows nothing keeps two runs apart
    fcntl = None


class Journal:
    """Lines of JSON in a file, each on disk before `add` returns: the job first, then what was done of it.

    `entries` are those of earlier runs. Raises `UserError` where the file is of another `job`, where another process
    has it open, and where it is no journal.
    """

    def __init__(self, path: Path, job: Mapping[str, Any]) -> None:
        self._path = path
        self._file = path.open("a+b")
        try:
            self._lock()
            lines = self._lines()
            self.entries = lines[1:]
            if not lines:
                self.add(job)
            elif lines[0] != job:
                raise UserError(f"{path.parent}: was begun from another source or in another format; {_REMOVE}")
        except BaseException:
            self.close()
            raise

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append `entry` and wait until it is on disk."""
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{self._path.parent}: another process is writing it; wait for it to end") from error

    def _lines(self) -> list[dict[str, Any]]:
        """Every whole line; what a killed run wrote of another one is cut off."""
        self._file.seek(0)
        text = self._file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._file.truncate(len(whole))
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self._path}: is no journal ({error}); {_REMOVE}") from error
        if not all(isinstance(line, dict) for line in lines):
            raise UserError(f"{self._path}: is no journal; {_REMOVE}")
        return cast("list[dict[str, Any]]", lines)


_REMOVE = "remove the folder to begin anew, or choose another name"
