"""Tar shards in the WebDataset layout: files `KEY.jpg` and `KEY.cls` (a number) or `KEY.json` (label or identity)."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypedDict
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from faceprint.data.class_map import read_class_names
from faceprint.data.identities import number_identities
from faceprint.data.images import IMAGE_SUFFIXES, Image, ImageError, decode_image
from faceprint.data.source import ImageName
from faceprint.data.storage import RangeReader, describe_file, find_files, is_url, open_file, reading
from faceprint.data.tar import BLOCK, END_OF_ARCHIVE, MAX_MEMBER_NAME, Member, make_member, read_members, read_name
from faceprint.errors import UserError
from faceprint.files import write_whole

INDEX_FOLDER = "shard-index"
SHARD_IMAGES = 10_000
MAX_LABEL = 1 << 16
"""Bytes of a label file; a longer one is none."""
IDENTITY_KEYS = ("identity", "label", "cls")
"""Where a KEY.json has the identity, the first that is there."""


class Index(TypedDict):
    """Where the images of one shard lie: offset and size (n,), and `names[codes[i]]`, who they show."""

    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    codes: NDArray[np.int64]
    names: list[str]
    skipped: dict[str, int]


@dataclass(frozen=True)
class ShardSource:
    """A `Source` over tar shards. `storage[i]` is the shard of image i; images of a shard are in a row.

    `skipped` counts what was passed over when the shards were indexed: images without a label, labels without an
    image, links and other things that are no files.
    """

    reader: RangeReader
    storage: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int64]
    class_names: Sequence[str]
    skipped: Mapping[str, int] = field(default_factory=dict[str, int])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        return decode_image(self.encoded(index), name=ImageName(self, index)), int(self.labels[index])

    def encoded(self, index: int) -> bytes:
        return self._read(index, int(self.offsets[index]), int(self.sizes[index]))

    def name(self, index: int) -> str:
        """The shard and the name in it; the byte too where the name is not known, or perhaps not whole: lists of images
        to leave out hold these."""
        try:
            name = self.stored_path(index)
        except ImageError:
            name = ""
        if not name or len(name.encode(errors="surrogateescape")) >= MAX_MEMBER_NAME:
            name = f"{name} at byte {self.offsets[index]}".lstrip()
        return f"{self.reader.paths[self.storage[index]]}/{name}"

    def stored_path(self, index: int) -> str:
        """The name in the shard, its first 100 bytes where it is longer; none for shards behind a URL."""
        if is_url(self.reader.paths[int(self.storage[index])]):
            return ""  # it would take a request for each image
        return read_name(self._read(index, int(self.offsets[index]) - BLOCK, BLOCK))

    def _read(self, index: int, offset: int, size: int) -> bytes:
        shard = int(self.storage[index])
        with reading(f"{self.reader.paths[shard]}: byte {offset}", ImageError):
            data = self.reader.read(shard, offset, size)
        if len(data) != size:
            raise ImageError(
                f"{self.reader.paths[shard]}: has no {size} bytes at byte {offset}; changed since indexed?"
            )
        return data


def shard_source(spec: str | os.PathLike[str]) -> ShardSource:
    """The images of the shards that `spec` means (see `find_files`: a .tar, a folder of them, a pattern, URLs).

    Each shard is read through once, and its index is kept in the user's cache folder until size or time of the shard
    change. Labels that are numbers keep their order, names are sorted. Raises `UserError` for an archive that is none,
    is cut off, or holds no labelled image.
    """
    paths = find_files(os.fspath(spec), ".tar")
    indices = [cached_index(path) for path in paths]
    names = list(dict.fromkeys(name for index in indices for name in index["names"]))
    code_of = {name: code for code, name in enumerate(names)}
    codes = np.concatenate(
        [np.array([code_of[name] for name in index["names"]], np.int64)[index["codes"]] for index in indices]
    )
    skipped: Counter[str] = Counter()
    for index in indices:
        skipped.update(index["skipped"])
    if not len(codes):
        raise UserError(
            f"{spec}: no labelled images; a shard holds KEY.jpg (or {', '.join(IMAGE_SUFFIXES[1:])}) and KEY.cls or"
            f" KEY.json for each{_counted(skipped)}"
        )
    labels, class_names = _number(codes, names, read_class_names(paths[0]))
    return ShardSource(
        reader=RangeReader(paths),
        storage=np.repeat(np.arange(len(paths), dtype=np.int32), [len(index["codes"]) for index in indices]),
        offsets=np.concatenate([index["offsets"] for index in indices]),
        sizes=np.concatenate([index["sizes"] for index in indices]),
        labels=labels,
        class_names=class_names,
        skipped=skipped,
    )


def _number(
    codes: NDArray[np.int64], names: list[str], stated: list[str] | None
) -> tuple[NDArray[np.int64], list[str]]:
    """Labels and class names; numbers count, and mean the names that were `stated` for them."""
    if not all(name.isdecimal() for name in names):
        return number_identities(codes, names, in_order=False)
    order = sorted(range(len(names)), key=lambda code: int(names[code]))
    rank = np.zeros(len(names), np.int64)
    rank[order] = np.arange(len(names))
    numbers = [int(names[code]) for code in order]
    if stated is not None and numbers[-1] < len(stated):
        called = [stated[number] for number in numbers]
    else:
        called = [names[code] for code in order]
    return number_identities(rank[codes], called, in_order=True)


def _counted(skipped: Mapping[str, int]) -> str:
    return "".join(f"; {count} {what}" for what, count in skipped.items())


def cached_index(path: str) -> Index:
    """The index of one shard, from the user's cache folder where it is still true, else made and kept there."""
    size, state = describe_file(path)
    where = path if is_url(path) else os.path.abspath(path)
    kept = cache_folder() / INDEX_FOLDER / f"{hashlib.sha256(f'{where} {state}'.encode()).hexdigest()[:32]}.npz"
    found = _load_index(kept, size)
    if found is None:
        with reading(path), open_file(path, sequential=True) as file:
            found = make_index(file, size, path)
        _keep_index(kept, found)
    return found


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/faceprint`, or `~/.cache/faceprint`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "faceprint"


def _load_index(path: Path, size: int) -> Index | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            told = json.loads(arrays["told"].tobytes())
            columns = {name: arrays[name].astype(np.int64) for name in ("offsets", "sizes", "codes")}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, NotImplementedError):
        return None  # not there, or not whole: it is made again
    index = Index(**columns, names=told["names"], skipped=told["skipped"])
    ends = index["offsets"] + index["sizes"]
    return index if not len(ends) or int(ends.max()) <= size else None


def _keep_index(path: Path, index: Index) -> None:
    told = json.dumps({"names": index["names"], "skipped": index["skipped"]}).encode()
    buffer = io.BytesIO()
    where = {"offsets": index["offsets"], "sizes": index["sizes"], "codes": index["codes"]}
    np.savez(buffer, allow_pickle=False, told=np.frombuffer(told, np.uint8), **where)
    with suppress(UserError):  # without a place to keep it, it is made again next time
        write_whole(path, buffer.getvalue())


def make_index(file: Any, size: int, shard: str) -> Index:
    """Read through one shard, an open file of `size` bytes. Raises `UserError` for one that is no whole archive."""
    images: dict[str, Member] = {}
    labels: dict[str, str] = {}
    skipped: Counter[str] = Counter()
    for member in read_members(file, size, shard):
        if member.kind == "other":
            skipped["links and other things that are no files"] += 1
        elif member.kind == "file":
            _sort_in(member, file, shard, images, labels, skipped)
    whole = [key for key in images if key in labels]
    skipped["images without a label"] += len(images) - len(whole)
    skipped["labels without an image"] += len(labels) - len(whole)
    names = list(dict.fromkeys(labels[key] for key in whole))
    code_of = {name: code for code, name in enumerate(names)}
    return Index(
        offsets=np.array([images[key].offset for key in whole], np.int64),
        sizes=np.array([images[key].size for key in whole], np.int64),
        codes=np.array([code_of[labels[key]] for key in whole], np.int64),
        names=names,
        skipped={what: count for what, count in skipped.items() if count},
    )


def _sort_in(
    member: Member,
    file: Any,
    shard: str,
    images: dict[str, Member],
    labels: dict[str, str],
    skipped: Counter[str],
) -> None:
    folder, _, base = member.name.rpartition("/")
    stem, dot, extension = base.partition(".")  # a key ends at the first dot, as WebDataset has it
    if not stem or not dot:
        return
    key = f"{folder}/{stem}"
    if f".{extension.lower()}" in IMAGE_SUFFIXES:
        if key in images:
            raise UserError(f"{shard}: {member.name} is a second image of the sample {key!r}")
        images[key] = member
    elif extension in ("cls", "json") and (extension == "json" or key not in labels):
        identity = _identity(member, file, shard)
        if identity is not None:
            labels[key] = identity
    elif extension.lower().endswith(IMAGE_SUFFIXES):
        skipped["images with a second dot in their names, where a key ends"] += 1


def _identity(member: Member, file: Any, shard: str) -> str | None:
    """What a .cls or .json says; None for a .json that names nobody."""
    if member.size > MAX_LABEL:
        raise UserError(f"{shard}: {member.name} has {member.size} bytes; a label has at most {MAX_LABEL}")
    file.seek(member.offset)
    data: bytes = file.read(member.size)
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{shard}: {member.name} is neither a number nor JSON ({error})") from error
    if isinstance(said, dict):
        said = next((said[key] for key in IDENTITY_KEYS if said.get(key) is not None), None)
        if said is None:
            return None
    if not isinstance(said, str | int) or isinstance(said, bool):
        raise UserError(f"{shard}: {member.name} says {str(said)[:40]!r}; an identity is a whole number or a name")
    return str(said)


class ShardWriter:
    """A `SetWriter` of shards `00000.tar`, `00001.tar` … of `SHARD_IMAGES` images each, the last one of fewer, in the
    folder `path`; or of the one shard `path`, whose name ends in `.tar`.

    An image at `IDENTITY/IMAGE.jpg` becomes the members of that name and `IDENTITY/IMAGE.cls`, its label; one whose
    name has a dot more, more than 100 bytes, or differs from another in its ending alone gets a number for a name.
    """

    def __init__(self, path: Path, class_names: Sequence[str], labels: NDArray[np.int64]) -> None:
        self._path = path
        self._shard_images = sys.maxsize if path.suffix == ".tar" else SHARD_IMAGES
        self._count = len(labels)
        self._keys: set[str] = set()
        self._file: IO[bytes] | None = None
        if self._count % self._shard_images:
            self._go_on(self._shard())

    def write(self, data: bytes, label: int, path: str) -> None:
        if self._file is None:
            self._keys.clear()
            self._file = self._shard().open("wb")
        key, suffix = self._free_key(path), os.path.splitext(path)[1]
        self._file.write(make_member(key + suffix, data) + make_member(f"{key}.cls", b"%d" % label))
        self._count += 1
        if self._count % self._shard_images == 0:
            self._end_shard()

    def checkpoint(self) -> Mapping[str, int]:
        if self._file is None:
            return {}
        self._file.flush()
        return {Path(self._file.name).name: self._file.tell()}

    def finish(self) -> None:
        self._end_shard()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _shard(self) -> Path:
        number = self._count // self._shard_images
        return self._path if self._path.suffix == ".tar" else self._path / f"{number:05d}.tar"

    def _go_on(self, shard: Path) -> None:
        self._file = shard.open("r+b")
        size = self._file.seek(0, os.SEEK_END)
        self._file.write(END_OF_ARCHIVE)
        members = read_members(self._file, size + len(END_OF_ARCHIVE), str(shard))
        self._keys = {os.path.splitext(member.name)[0] for member in members}
        self._file.seek(size)
        self._file.truncate()

    def _free_key(self, path: str) -> str:
        key = os.path.splitext(path)[0]
        if (
            "." in os.path.basename(key)
            or len(path.encode(errors="surrogateescape")) > MAX_MEMBER_NAME
            or key in self._keys
        ):
            key = f"{self._count:09d}"
        self._keys.add(key)
        return key

    def _end_shard(self) -> None:
        if self._file is not None:
            self._file.write(END_OF_ARCHIVE)
            self._file.flush()
            os.fsync(self._file.fileno())
            self.close()
