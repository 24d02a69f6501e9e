"""What images are called in a set that is written: unique paths that lead nowhere else, whatever the source says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import count
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from faceprint.data.images import IMAGE_SUFFIXES, ImageError, suffix_of
from faceprint.data.source import Source

# Halves of UTF-16 pairs are in no file name, but for those that stand for bytes that are not UTF-8.
_UNSAFE = re.compile("^\\.|[\x00-\x1f\x7f:/\\\\\ud800-\udc7f\udd00-\udfff]")

_KEPT = re.compile(rf"(?:/(?!\.)[^\x00-\x1f\x7f:/\\]+)+(?:{'|'.join(map(re.escape, IMAGE_SUFFIXES))})", re.IGNORECASE)


class TargetPaths:
    """`[i]` is the path of image `i` of `source` in a new set, `IDENTITY/IMAGE.jpg`; `class_names` are the identities.

    The path that the source has is kept from the folder of the identity's name on, or put below one. An image without
    one is numbered, from 1, `IDENTITY/IDENTITY_0001.jpg`. A name that is taken gets `~2`, `~3` … at its end;
    characters that no file name should have become `%2F` and the like, and a folder `..` or a root is dropped, so
    that no path leads out of the set. Identities are treated likewise, so that a set has the same ones in every
    format. The same source gives the same paths. Holds 16 bytes an image.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._labels = source.labels
        self.class_names: list[str] = folder_names(source.class_names)
        self._numbers = _numbers_within(self._labels)
        self._suffix = _first_suffix(source)
        self.hashes: NDArray[np.uint64] = np.fromiter(
            (_hash(self._wanted(index)) for index in range(len(source))), np.uint64, len(source)
        )
        self._other: dict[int, str] = dict(self._other_names())

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> str:
        return self._other.get(index) or self._wanted(index)

    def _wanted(self, index: int) -> str:
        folder, stored = self.class_names[self._labels[index]], self._source.stored_path(index)
        if stored.startswith(folder) and _KEPT.fullmatch(stored, len(folder)):
            return stored  # what the lines below say too, sooner: sets have millions of images
        parts = [_component(part) for part in _parts(stored)]
        if folder in parts[:-1]:
            parts = parts[parts.index(folder) + 1 :]
        path = "/".join([folder, *(parts or [f"{folder}_{self._numbers[index]:04d}"])])
        return path if path.lower().endswith(IMAGE_SUFFIXES) else path + self._suffix

    def _other_names(self) -> Iterator[tuple[int, str]]:
        """(index, path) of those whose path an earlier image has."""
        taken = np.unique(self.hashes)
        if len(taken) == len(self.hashes):
            return
        order = np.argsort(self.hashes, kind="stable")
        repeated = np.flatnonzero(np.diff(self.hashes[order]) == 0) + 1
        added: set[int] = set()
        following: dict[str, Iterator[int]] = {}
        for index in np.sort(order[repeated]).tolist():
            path = PurePosixPath(self._wanted(index))
            for number in following.setdefault(str(path), count(2)):
                other = str(path.with_stem(f"{path.stem}~{number}"))
                code = _hash(other)
                if code not in added and not _contains(taken, code):
                    added.add(code)
                    yield index, other
                    break


def folder_names(class_names: Sequence[str]) -> list[str]:
    """A folder name for each identity, no two the same, safe as a file name."""
    used: set[str] = set()
    folders: list[str] = []
    for name in class_names:
        wanted = _component(name) or "_"
        other = (f"{wanted}~{number}" for number in count(2))
        folder = wanted if wanted not in used else next(name for name in other if name not in used)
        used.add(folder)
        folders.append(folder)
    return folders


def _contains(ascending: NDArray[np.uint64], code: int) -> bool:
    place = int(np.searchsorted(ascending, np.uint64(code)))
    return place < len(ascending) and int(ascending[place]) == code


def _numbers_within(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) the how-manieth of its label each image is, from 1."""
    order = np.argsort(labels, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(labels))])[:-1] if len(labels) else labels
    numbers = np.empty(len(labels), np.int64)
    numbers[order] = np.arange(1, len(labels) + 1) - starts[labels[order]]
    return numbers


def _first_suffix(source: Source) -> str:
    """What paths without a suffix get: the kind of the first image, as sets hold one kind."""
    try:
        return suffix_of(source.encoded(0))
    except (ImageError, IndexError):
        return ".jpg"


def _parts(path: str) -> list[str]:
    return [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]


def _component(name: str) -> str:
    return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", name)


def _hash(path: str) -> int:
    return int.from_bytes(blake2b(path.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
