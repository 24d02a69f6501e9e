"""Images to embeddings, once: cached by model, preprocessing and data, resumable, shared among processes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceprint import __version__
from faceprint.data.fingerprint import bytes_fingerprint, files_fingerprint
from faceprint.data.images import Image, ImageError, read_image
from faceprint.data.journal import Journal
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.evaluation.embedding_set import (
    VECTORS,
    EmbeddingSet,
    Floats,
    Vectors,
    describe,
    open_array,
    open_embeddings,
    publish,
)
from faceprint.evaluation.ranks import current_world, share_of
from faceprint.inference.embedder import Embeddings
from faceprint.inference.model_card import ModelCard

__all__ = [
    "EmbeddingSet",
    "Embeds",
    "ImageSet",
    "UnreadableImagesError",
    "cache_folder",
    "embed_set",
    "image_files",
    "open_embeddings",
    "resize_shorter_side",
]

Progress = Callable[[int, int], None]

BLOCK = 512
"""Rows that are written, and lost by a kill, together."""
NAMES_SHOWN = 20
_NORMS = ("norms", "view_norms")
_PARTIAL = ".partial"


class Embeds(Protocol):
    """What evaluation needs of an `Embedder`."""

    @property
    def name(self) -> str: ...

    @property
    def input(self) -> InputSpec: ...

    @property
    def embedding_dim(self) -> int: ...

    @property
    def content_hash(self) -> Callable[[], str] | None: ...

    @property
    def runs_on(self) -> str: ...

    @property
    def card(self) -> ModelCard | None: ...

    def embed(
        self, images: Iterable[Image], *, flip: bool = False, batch_size: int = 64, progress: Progress | None = None
    ) -> Floats: ...

    def embed_with_norms(
        self, images: Iterable[Image], *, flip: bool = False, batch_size: int = 64, progress: Progress | None = None
    ) -> Embeddings: ...


@dataclass(frozen=True, eq=False)
class ImageSet:
    """N images: `read(i)` gives image i as uint8 (H, W, 3) RGB, or raises `ImageError`; `names[i]` is its name.

    `fingerprint()` changes whenever an image, or their order, does; None where nothing says so: such a set is embedded
    anew each time. `keys` (N,) find the images in embeddings made elsewhere, as `select_rows` has them. With
    `resize_short`, images of another width than the network's are resized, the shorter side to that width, as the
    published rule for `.bin` has it; without, they are an error.
    """

    names: Sequence[str]
    read: Callable[[int], Image]
    fingerprint: Callable[[], str] | None = None
    keys: Sequence[str] | Sequence[int] = ()
    resize_short: bool = False

    def prepared(self, number: int, spec: InputSpec) -> Image:
        """Image `number` as a network with input `spec` takes it. Raises `UserError` for one of another size."""
        image = self.read(number)
        image = resize_shorter_side(image, spec.size) if self.resize_short else image
        spec.check(image, self.names[number])
        return image


class UnreadableImagesError(UserError):
    """Images of a set that cannot be read; `reasons` maps their numbers to what is wrong with each."""

    def __init__(self, reasons: Mapping[int, str], num_images: int) -> None:
        self.reasons = reasons
        shown = "; ".join([*reasons.values()][:NAMES_SHOWN])
        more = f"; and {len(reasons) - NAMES_SHOWN:,} more" if len(reasons) > NAMES_SHOWN else ""
        super().__init__(
            f"{len(reasons):,} of {num_images:,} images cannot be read: {shown}{more}; mend them, or leave them out by"
            " skip_unreadable=true, which counts them"
        )

    def lines(self) -> list[str]:
        """One for each image."""
        return [f"unreadable: {reason}" for reason in self.reasons.values()]


def resize_shorter_side(image: Image, size: tuple[int, int]) -> Image:
    """The published rule for `.bin`: where the width differs, resize the shorter side to it, by cubic interpolation.

    An image that would not end at `size` (height, width) is returned as it is, to be refused: resizing a very
    long one could take any amount of memory.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    result = (size[1] * height // short, size[1] * width // short)
    if width == size[1] or result != size:
        return image
    return cv2.resize(image, result[::-1], interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)


def image_files(paths: Sequence[str | os.PathLike[str]], names: Sequence[str] | None = None) -> ImageSet:
    """The images in these files, by default named by their paths."""
    shown = [str(path) for path in paths] if names is None else names
    return ImageSet(shown, lambda i: read_image(paths[i]), lambda: files_fingerprint(paths), shown)


def cache_folder(given: str | os.PathLike[str] | None = None) -> Path | None:
    """Where embeddings are kept: `given`, else $FACEPRINT_CACHE, else `faceprint/embeddings` in the user's caches.

    "none", given or in the variable, is None: nowhere; so is a user's cache folder that cannot be written.
    """
    chosen = given or os.environ.get("FACEPRINT_CACHE")
    if chosen:
        return None if str(chosen).lower() == "none" else Path(chosen)
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(root, "faceprint", "embeddings")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.path.isabs(root) and os.access(folder, os.W_OK) else None


def embed_set(
    embedder: Embeds,
    images: ImageSet,
    *,
    flip: bool = True,
    batch_size: int = 64,
    cache: str | os.PathLike[str] | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    skip_unreadable: bool = False,
    progress: Progress | None = None,
    labels: ArrayLike | None = None,
    templates: ArrayLike | None = None,
    media: ArrayLike | None = None,
) -> EmbeddingSet:
    """Embed every image of `images` once; row i of the result is image i.

    In the folder `cache` (None: not kept) embeddings are found again by a hash of the model, its input (colour, mean,
    std, size), flip, dtype, the kind of device, the images' fingerprint and the version of this program, which may read
    and prepare images otherwise; then the network does not run. They are written in blocks of
    512 rows with a journal: killed, the next call goes on behind the last whole block. Where there are several
    processes each computes a share and writes it into the same files, so `cache` is a folder that all see; their number
    may change in between. All return the whole set. Without a cache, as with a model or images without fingerprint, the
    shares are sent.

    An image that cannot be read raises `UnreadableImagesError` when all others are done, or, with `skip_unreadable`,
    becomes a zero vector that `unreadable` names. `progress` gets (images done, images in all). Raises `UserError` as
    `Embedder.embed` does, and where `cache` cannot be written or another run is writing the same set.
    """
    job = _Job(embedder, images, flip, batch_size, dtype, skip_unreadable, progress)
    key = job.key if cache is not None else None
    found = _in_memory(job) if cache is None or key is None else _in_folder(job, Path(cache) / key)
    numbers = {"labels": labels, "templates": templates, "media": media}
    given = {name: np.asarray(values, np.int64) for name, values in numbers.items() if values is not None}
    return replace(found, **given)


@dataclass(frozen=True, eq=False)
class _Job:
    """What is to be embedded, and how."""

    embedder: Embeds
    images: ImageSet
    flip: bool
    batch_size: int
    dtype: str
    skip_unreadable: bool
    progress: Progress | None

    @cached_property
    def count(self) -> int:
        return len(self.images.names)

    @cached_property
    def key(self) -> str | None:
        """Names what the embeddings depend on; None where that cannot be told."""
        model, data = self.embedder.content_hash, self.images.fingerprint
        if model is None or data is None:
            return None
        names = bytes_fingerprint(name.encode(errors="surrogateescape") for name in self.images.names)
        how = {"dtype": self.dtype, "runs_on": self.embedder.runs_on, "program": __version__}
        what = {**self.origin, "model": model(), "data": data(), "names": names, **how}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def origin(self) -> dict[str, Any]:
        shape = {"resize_short": True} if self.images.resize_short else {}
        return {"input": asdict(self.embedder.input), "flip": self.flip, **shape}

    def embed(self, rows: range, progress: Progress | None) -> EmbeddingSet:
        """The rows `rows` as a set of their own; its `unreadable` counts from its first row."""
        unreadable: dict[int, str] = {}
        made = self.embedder.embed_with_norms(
            self._readable(rows, unreadable), flip=self.flip, batch_size=self.batch_size, progress=progress
        )
        readable = [row for row in range(len(rows)) if row not in unreadable]
        vectors = np.zeros((len(rows), self.embedder.embedding_dim), self.dtype)
        norms, view_norms = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
        vectors[readable], norms[readable], view_norms[readable] = made.vectors, made.norms, made.view_norms
        return EmbeddingSet(
            vectors=cast("Vectors", vectors),
            names=self.images.names[rows.start : rows.stop],
            norms=norms,
            view_norms=view_norms,
            unreadable=unreadable,
        )

    def _readable(self, rows: range, unreadable: dict[int, str]) -> Iterator[Image]:
        for row in rows:
            try:
                yield self.images.prepared(row, self.embedder.input)
            except ImageError as error:
                unreadable[row - rows.start] = str(error)

    def finished(
        self, vectors: Vectors, norms: Floats, view_norms: Floats, unreadable: Mapping[int, str]
    ) -> EmbeddingSet:
        """The whole set. Raises `UnreadableImagesError`."""
        if unreadable and not self.skip_unreadable:
            raise UnreadableImagesError(unreadable, self.count)
        return EmbeddingSet(
            vectors=vectors,
            names=self.images.names,
            norms=norms,
            view_norms=view_norms,
            unreadable=unreadable,
            origin={"model": self.embedder.name, **self.origin},
        )

    def report(self, before: int, done: int) -> None:
        """Tell of `done` images of this process, and `before` that were there."""
        if self.progress:
            self.progress(min(before + done * current_world().world_size(), self.count), self.count)


def _in_memory(job: _Job) -> EmbeddingSet:
    world = current_world()
    own = world.together(lambda: job.embed(share_of(job.count, world), lambda done, _: job.report(0, done)))
    parts = world.gather_objects(own)
    starts = np.cumsum([0, *map(len, parts)]).tolist()
    unreadable = {
        start + row: why for start, part in zip(starts, parts, strict=False) for row, why in part.unreadable.items()
    }
    columns = [np.concatenate([part.columns()[name] for part in parts]) for name in _NORMS]
    vectors = cast("Vectors", np.concatenate([part.vectors for part in parts]))
    return replace(job.finished(vectors, columns[0], columns[1], unreadable), computed=job.count)


def _in_folder(job: _Job, target: Path) -> EmbeddingSet:
    world = current_world()
    work = _Work(job, target.with_name(target.name + _PARTIAL))
    pending = world.by_first_rank(lambda: None if _is_whole(target) else work.begin())
    computed = 0
    if pending is not None:
        share = share_of(len(pending), world)
        world.together(lambda: work.compute(pending[share.start : share.stop], job.count - work.rows_in(pending)))
        computed = work.rows_in(pending)
        world.by_first_rank(lambda: work.finish(target))
    found = replace(open_embeddings(target), computed=computed)
    if found.unreadable and not job.skip_unreadable:
        raise UnreadableImagesError(found.unreadable, job.count)
    return found


def _is_whole(folder: Path) -> bool:
    """Whether the set is there; a damaged one is not."""
    try:
        open_embeddings(folder)
    except UserError:
        return False
    return True


@dataclass(frozen=True, eq=False)
class _Work:
    """A set on its way: arrays of full size in `folder`, and one journal a process of the blocks that are in them."""

    job: _Job
    folder: Path

    @property
    def _shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        rows = self.job.count
        columns = {f"{name}.npy": ((rows,), "float32") for name in _NORMS}
        return {VECTORS: ((rows, self.job.embedder.embedding_dim), self.job.dtype), **columns}

    def rows_of(self, block: int) -> range:
        return range(block * BLOCK, min((block + 1) * BLOCK, self.job.count))

    def rows_in(self, blocks: Sequence[int]) -> int:
        return sum(len(self.rows_of(block)) for block in blocks)

    def begin(self) -> list[int]:
        """Make the files, or find those of an earlier run; the blocks that are still to be computed."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not all(self._is_there(name) for name in self._shapes):
                self._make()
            done = self._done()
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        return [block for block in range(-(-self.job.count // BLOCK)) if block not in done]

    def _is_there(self, name: str) -> bool:
        try:
            open_array(self.folder / name, *self._shapes[name])
        except UserError:
            return False
        return True

    def _make(self) -> None:
        """Files of full size, which take room as they are filled. Journals of other files go."""
        for journal in self.folder.glob("*.jsonl"):
            journal.unlink()
        needed = self.job.count * self.job.embedder.embedding_dim * np.dtype(self.job.dtype).itemsize
        if (free := shutil.disk_usage(self.folder).free) < needed:
            raise UserError(f"{self.folder}: needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free")
        for name, (shape, dtype) in self._shapes.items():
            np.lib.format.open_memmap(self.folder / name, "w+", np.dtype(dtype), shape)

    def _journal(self, name: str) -> Journal:
        return Journal(self.folder / name, {"rows": self.job.count, "block": BLOCK})

    def _entries(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        for path in sorted(self.folder.glob("*.jsonl")):
            journal = self._journal(path.name)
            journal.close()
            entries += journal.entries
        return entries

    def _done(self) -> set[int]:
        """The blocks whose rows are what the journal says."""
        arrays = [open_array(self.folder / name, *shape) for name, shape in self._shapes.items()]
        found: set[int] = set()
        for entry in self._entries():
            rows = self.rows_of(entry["block"])
            if _checksum([array[rows.start : rows.stop] for array in arrays]) == entry["checksum"]:
                found.add(entry["block"])
        return found

    def compute(self, blocks: Sequence[int], before: int) -> None:
        """Compute and write these blocks; `before` images were there."""
        if not blocks:
            return
        journal = self._journal(f"rank-{current_world().rank()}.jsonl")
        try:
            for place, block in enumerate(blocks):
                start = place * BLOCK
                self._compute(block, journal, lambda done, _, start=start: self.job.report(before, start + done))
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        finally:
            journal.close()

    def _compute(self, block: int, journal: Journal, progress: Progress) -> None:
        rows = self.rows_of(block)
        made = self.job.embed(rows, progress)
        parts = [made.vectors, *(made.columns()[name] for name in _NORMS)]
        for name, values in zip(self._shapes, parts, strict=True):
            _write_rows(self.folder / name, values, rows.start, self.job.count)
        unreadable = {str(rows.start + row): reason for row, reason in made.unreadable.items()}
        journal.add({"block": block, "checksum": _checksum(parts), "unreadable": unreadable})

    def finish(self, target: Path) -> None:
        """Write what makes it a set, and give it its name."""
        unreadable = {int(row): why for entry in self._entries() for row, why in entry["unreadable"].items()}
        arrays = [open_array(self.folder / name, *shape) for name, shape in self._shapes.items()]
        try:
            describe(self.job.finished(cast("Vectors", arrays[0]), arrays[1], arrays[2], unreadable), self.folder)
            publish(self.folder, target)
            for journal in target.glob("*.jsonl"):
                journal.unlink()
        except OSError as error:
            raise _unwritable(self.folder, error) from error


def _write_rows(path: Path, values: NDArray[Any], start: int, total: int) -> None:
    """Write `values` as the rows from `start` of a `.npy` file of `total` rows; they are on disk afterwards.

    Not through a memory map: on a full disk that would end the process without a word.
    """
    data = np.ascontiguousarray(values).tobytes()
    row_bytes = len(data) // len(values)
    with path.open("r+b") as file:
        header = file.seek(0, os.SEEK_END) - total * row_bytes
        file.seek(header + start * row_bytes)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _checksum(parts: Sequence[NDArray[Any]]) -> int:
    value = 0
    for part in parts:
        value = zlib.crc32(np.ascontiguousarray(part).tobytes(), value)
    return value


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(f"{folder}: cannot be written ({error.strerror or error}); give cache=DIR, or cache=none")
