"""Where large files lie: on this machine, or behind a URL that fsspec knows. Found, described and read by ranges."""

from __future__ import annotations

import glob
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faceprint.data.extras import require
from faceprint.errors import UserError

MAX_FILES = 1_000_000
"""A pattern such as {0..999999999999} is refused before it fills the memory."""
OPEN_FILES = 64
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def is_url(path: str) -> bool:
    """Whether `path` is one that fsspec opens: http(s)://, s3://, gs://, memory://, …"""
    return "://" in path


def is_pattern(path: str) -> bool:
    """Whether `path` may stand for several files, or lies elsewhere, so that asking the file system tells nothing."""
    return is_url(path) or any(sign in path for sign in "{*?")


def find_files(spec: str, suffix: str) -> list[str]:
    """The files that `spec` means: one file, a folder (its files that end in `suffix`, sorted), a pattern with * or
    ?, or numbers in braces, `shards-{000..123}.tar`; local, or a URL. Raises `UserError` where there are none."""
    found = list_files(spec, suffix)
    if not found:
        raise UserError(f"{spec}: no {suffix} files there")
    return found


def list_files(spec: str, suffix: str) -> list[str]:
    """The same, and no error where a folder or a URL has none."""
    found: list[str] = []
    for path in expand_braces(spec):
        found += _url_files(path, suffix) if is_url(path) else _local_files(path, suffix)
    return found


def expand_braces(spec: str) -> list[str]:
    """`a-{08..11}.tar` -> a-08.tar … a-11.tar, as wide as the first number; several braces multiply."""
    match = _RANGE.search(spec)
    if match is None:
        return [spec]
    first, last = int(match[1][:20]), int(match[2][:20])
    if not first <= last or last - first >= MAX_FILES:
        raise UserError(f"{spec}: {match[0]} must count up, over at most {MAX_FILES:,} files")
    before, after = spec[: match.start()], expand_braces(spec[match.end() :])
    if (last - first + 1) * len(after) > MAX_FILES:
        raise UserError(f"{spec}: stands for more than {MAX_FILES:,} files")
    return [f"{before}{number:0{len(match[1])}d}{rest}" for number in range(first, last + 1) for rest in after]


def _local_files(path: str, suffix: str) -> list[str]:
    if os.path.isdir(path):
        return sorted(str(file) for file in Path(path).iterdir() if file.name.endswith(suffix) and file.name[0] != ".")
    if os.path.isfile(path):
        return [path]
    matches = sorted(glob.glob(path))
    if not matches:
        raise UserError(f"{path}: no such file or folder")
    return matches


def _url_files(url: str, suffix: str) -> list[str]:
    if url.endswith(suffix) and not any(sign in url for sign in "*?"):
        return [url]
    with reading(f"{url} (name its files by {{000..123}} where it cannot be listed)"):
        system, path = _fsspec().core.url_to_fs(url)
        names = system.glob(path if any(sign in url for sign in "*?") else f"{path.rstrip('/')}/*{suffix}")
        return sorted(system.unstrip_protocol(name) for name in names)


def describe_file(path: str) -> tuple[int, str]:
    """Size in bytes, and a text that changes when the file does: time of change, or what a server says of it."""
    with reading(path):
        if not is_url(path):
            status = os.stat(path)
            return status.st_size, f"{status.st_size}-{status.st_mtime_ns}"
        system, inner = _fsspec().core.url_to_fs(path)
        info = system.info(inner)
    size = info.get("size")
    if not isinstance(size, int):
        raise UserError(f"{path}: the server does not say how large it is, so it cannot be read by ranges")
    told = (info.get(key) for key in ("ETag", "LastModified", "mtime", "created", "generation"))
    return size, "-".join([str(size), *(str(value) for value in told if value is not None)])


def open_file(path: str, *, sequential: bool = False) -> Any:
    """A binary file object with `seek` and `read`; `sequential` reads ahead, else only what is asked for is read.

    Raises `UserError` for one that cannot be opened.
    """
    with reading(path):
        if not is_url(path):
            return open(path, "rb")
        cache = {"cache_type": "readahead", "block_size": 4 << 20} if sequential else {"cache_type": "none"}
        system, inner = _fsspec().core.url_to_fs(path)
        return system.open(inner, "rb", **cache)


@contextmanager
def reading(name: str, error_type: type[UserError] = UserError) -> Generator[None]:
    """Every exception within becomes an `error_type` that names `name`.

    Each back end of fsspec raises exceptions of its own, of no common kind.
    """
    try:
        yield
    except UserError as error:
        raise (error if isinstance(error, error_type) else error_type(str(error))) from error
    except Exception as error:
        raise error_type(f"{name}: cannot be read ({_reason(error, name)})") from error


def _reason(error: Exception, name: str) -> str:
    """What the error says, or the one that caused it where it says no more than the name."""
    said = (str(cause) for cause in (error, error.__cause__) if cause is not None)
    return next((text for text in said if text and text not in name), type(error).__name__)


class RangeReader:
    """Byte ranges of many files. Each process, forked or spawned, opens its own; at most `OPEN_FILES` stay open."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, number: int, offset: int, size: int) -> bytes:
        """`size` bytes of file `number` from `offset` on, fewer at its end. Raises what `reading` takes."""
        if self._process != os.getpid():
            self._reset()  # the parent's handles share their position with it
        with self._lock:
            file = self._handle(number)
            file.seek(offset)
            return file.read(size)

    def _handle(self, number: int) -> Any:
        file = self._open.pop(number, None) or open_file(self.paths[number])
        self._open[number] = file
        if len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return file

    def __getstate__(self) -> Sequence[str]:
        return self.paths

    def __setstate__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        self._reset()


def _fsspec() -> Any:
    return require("fsspec", "remote", "URLs")
