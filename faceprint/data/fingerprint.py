"""Names for sets of images that change when the images do, so that what was computed of them can be found again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence


def files_fingerprint(paths: Sequence[str | os.PathLike[str]]) -> str:
    """SHA-256, in hexadecimal, of the files' absolute paths, sizes and times of change; their content is not read."""
    return _sha256(_stamp(path) for path in paths)


def bytes_fingerprint(contents: Iterable[bytes]) -> str:
    """SHA-256, in hexadecimal, of pieces of bytes and their lengths."""
    return _sha256(piece for content in contents for piece in (b"%d:" % len(content), content))


def _stamp(path: str | os.PathLike[str]) -> bytes:
    where = os.fsencode(os.path.abspath(path))
    try:
        status = os.stat(path)
    except OSError:
        return where + b"\0absent\n"
    return where + b"\0%d %d\n" % (status.st_size, status.st_mtime_ns)


def _sha256(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
