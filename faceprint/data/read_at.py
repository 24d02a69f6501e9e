"""Bytes of an open file by their place, for several threads and processes that share it."""

from __future__ import annotations

import os
import threading

_LOCK = threading.Lock()


def open_to_read(path: str | os.PathLike[str]) -> int:
    """A descriptor of the file, for `read_at`. Raises `OSError`."""
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # Windows would take a ^Z for the end


def seek_and_read(descriptor: int, count: int, offset: int) -> bytes:
    """What `os.pread` does, where there is none: Windows, whose processes share no positions, as they do not fork."""
    with _LOCK:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, count)


read_at = getattr(os, "pread", seek_and_read)
"""(descriptor, count, offset) -> up to `count` bytes from there, fewer at the end of the file."""
