"""One training at a time in a run folder."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import IO

from faceprint.errors import UserError

PATIENCE_SECONDS = 30.0
"""As long as a training that was told to stop may take to save its last checkpoint."""
_TAKEN = (errno.EACCES, errno.EAGAIN)


class Claim:
    """A run folder that is this process's until the claim is collected or the process ends, however it does.

    It is a lock of the system on the file `.lock`, which goes with the process. Where the system has none, as on
    Windows and on some network disks, nothing is claimed.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None

    def take(self, folder: Path, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Raises `UserError` where another process still trains in `folder` after this time."""
        until = time.monotonic() + patience_seconds
        while not self._taken(folder):
            if time.monotonic() > until:
                raise UserError(f"{folder}: another training writes there; end it first, or choose another out=DIR")
            time.sleep(0.2)

    def _taken(self, folder: Path) -> bool:
        try:
            import fcntl

            if not self._is_open(folder / ".lock"):
                self._file = (folder / ".lock").open("wb")
            assert self._file is not None
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            return True
        except OSError as error:
            return error.errno not in _TAKEN
        return True

    def _is_open(self, path: Path) -> bool:
        """Whether it is this file that is open, and not one of a folder that was removed since."""
        return self._file is not None and path.exists() and os.path.samestat(os.fstat(self._file.fileno()), path.stat())
