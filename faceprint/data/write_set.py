"""Writes any source in any format that can be written: the one loop behind all conversions."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from faceprint.cores import num_cores
from faceprint.data.class_map import MANIFEST, beside, write_class_map
from faceprint.data.digest import PART, Digest
from faceprint.data.formats import FORMATS, SetWriter
from faceprint.data.journal import Journal
from faceprint.data.read_ahead import UPDATE_EVERY, Encoded, read_ahead
from faceprint.data.source import Source
from faceprint.data.staging import Staging
from faceprint.data.target_paths import TargetPaths
from faceprint.errors import UserError
from faceprint.files import write_whole

UNREADABLE_FILE = "unreadable.json"

_GIVE_UP_AFTER = 1000  # more than allowed: then the disk is gone, not an image
_NAMES_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class SetReport:
    """What was written. `content` and `parts` are those of `digest.Digest`; `unreadable` holds (name, reason) of the
    images that were left out; `renamed` counts those that could not keep their path; `resumed_from` were written by
    earlier runs."""

    destination: str
    format: str
    images: int
    identities: int
    unreadable: tuple[tuple[str, str], ...]
    renamed: int
    resumed_from: int
    content: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def write_set(
    source: Source,
    destination: str | os.PathLike[str],
    *,
    kind: str,
    workers: int | None = None,
    decode: bool = False,
    max_unreadable: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> SetReport:
    """Write all images of `source`, byte for byte and in its order, as a set of the format `kind` at `destination`.

    As `stage_set`, and the set takes its name at once.
    """
    staged = stage_set(
        source,
        destination,
        kind=kind,
        workers=workers,
        decode=decode,
        max_unreadable=max_unreadable,
        progress=progress,
    )
    staged.publish()
    return staged.report


def stage_set(
    source: Source,
    destination: str | os.PathLike[str],
    *,
    kind: str,
    workers: int | None = None,
    decode: bool = False,
    max_unreadable: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> StagedSet:
    """Write a set in full, which `publish` of what is returned gives its name: several sets can so wait for the last.

    The set appears under its name when it is complete, with a class map and a manifest of checksums; until then it is
    `destination.partial`, and the same call goes on with it. A run that was killed at any moment and gone on with
    leaves the same bytes as one that was not. (What a power failure takes back of single image files is not noticed;
    `verify_set` would.)

    `workers` threads read (None: one for each core). Images that are empty or truncated, or with `decode` cannot be
    decoded, are left out and named; more than `max_unreadable` of them are an error, and so is everything that cannot
    be written: `UserError`.
    """
    if workers is not None and workers < 1:
        raise UserError(f"workers {workers}: give 1 or more")
    if max_unreadable < 0:
        raise UserError(f"max_unreadable {max_unreadable}: give 0 or more")
    if not len(source):
        raise UserError(f"{destination}: there is no image to write")
    started = time.perf_counter()
    staging = staging_of(destination, kind)
    job = _Job(source, TargetPaths(source), kind, staging, max_unreadable, progress)
    with _writing(destination):
        state, resumed = job.run(workers or num_cores(), decode)
    report = SetReport(
        destination=str(destination),
        format=kind,
        images=state.digest.images,
        identities=len(source.class_names),
        unreadable=tuple((name, reason) for _, name, reason in state.unreadable),
        renamed=state.renamed,
        resumed_from=resumed,
        content=state.digest.content,
        seconds=time.perf_counter() - started,
    )
    return StagedSet(report, staging)


def staging_of(destination: str | os.PathLike[str], kind: str) -> Staging:
    """Where a set of the format `kind` is written. Raises `UserError` for one that is only read."""
    row = FORMATS[kind]
    if row.create is None:
        writable = ", ".join(name for name, row in FORMATS.items() if row.create)
        raise UserError(f"format {kind!r}: sets of this kind are read only; written are {writable}")
    return Staging(Path(os.path.abspath(destination)), row)


@dataclass(frozen=True)
class StagedSet:
    """A set that is complete and has not its name yet."""

    report: SetReport
    staging: Staging

    def publish(self) -> None:
        """Let it appear under its name. Raises `UserError`."""
        with _writing(self.report.destination):
            self.staging.publish()


@contextmanager
def _writing(destination: str | os.PathLike[str]) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{destination}: cannot be written ({error.strerror or error}); mend that and repeat the command:"
            " it goes on where it was"
        ) from error


@dataclass
class _State:
    """How far a job is: all images before `position` were written or are `unreadable`: (index, name, reason)."""

    position: int = 0
    renamed: int = 0
    digest: Digest = field(default_factory=Digest)
    unreadable: list[tuple[int, str, str]] = field(default_factory=list[tuple[int, str, str]])
    finished: bool = False
    _noted: tuple[int, int] = (0, 0)

    def entry(self, files: Mapping[str, int]) -> dict[str, Any]:
        """What a journal needs beyond its earlier entries; `files` are those to cut to their lengths."""
        parts, unreadable = self._noted
        self._noted = len(self.digest.parts), len(self.unreadable)
        return {
            "position": self.position,
            "renamed": self.renamed,
            "images": self.digest.images,
            "total": self.digest.total,
            "parts": self.digest.parts[parts:],
            "unreadable": self.unreadable[unreadable:],
            "finished": self.finished,
            "files": files,
        }

    def restore(self, entries: list[dict[str, Any]]) -> None:
        """Be as it was after the last of `entries`."""
        for entry in entries:
            self.position, self.renamed, self.finished = entry["position"], entry["renamed"], entry["finished"]
            self.digest.images, self.digest.total = entry["images"], entry["total"]
            self.digest.parts += entry["parts"]
            self.unreadable += [(index, name, reason) for index, name, reason in entry["unreadable"]]
        self._noted = len(self.digest.parts), len(self.unreadable)


@dataclass(frozen=True)
class _Job:
    source: Source
    paths: TargetPaths
    kind: str
    staging: Staging
    max_unreadable: int
    progress: Callable[[int, int], None] | None

    def run(self, workers: int, decode: bool) -> tuple[_State, int]:
        """The state at the end, and how many images were there at the start."""
        self.staging.begin()
        journal = Journal(self.staging.journal, {"format": self.kind, "source": self._fingerprint()})
        state = _State()
        try:
            state.restore(journal.entries)
            resumed = state.digest.images
            if not state.finished:
                images = read_ahead(
                    self.source, self.paths.class_names, start=state.position, workers=workers, decode=decode
                )
                self._write(state, journal, images)
        finally:
            journal.close()
        return state, resumed

    def _fingerprint(self) -> str:
        """Tells whether a job is the one that was begun: the labels, what they are called, and the paths."""
        parts = self.source.labels.tobytes(), json.dumps(self.paths.class_names).encode(), self.paths.hashes.tobytes()
        return sha256(b"".join(sha256(part).digest() for part in parts)).hexdigest()

    def _write(self, state: _State, journal: Journal, images: Iterator[Encoded]) -> None:
        writer = self._open(state, journal)
        try:
            for image in images:
                if self._write_one(state, writer, image):
                    self._note(state, journal, writer)
                if self.progress and (image.index % UPDATE_EVERY == 0 or image.index == len(self.source) - 1):
                    self.progress(image.index + 1, len(self.source))
            state.digest.end()
            self._note(state, journal, writer)
            self._check_unreadable(state, self.max_unreadable)
            writer.finish()
        finally:
            with suppress(OSError):  # what could not be written cannot be flushed either; the first error says more
                writer.close()
        self._describe(state)
        state.finished = True
        journal.add(state.entry({}))

    def _open(self, state: _State, journal: Journal) -> SetWriter:
        create = FORMATS[self.kind].create
        assert create is not None
        if journal.entries:
            for name, length in journal.entries[-1]["files"].items():
                os.truncate(self.staging.folder / name, length)
        else:
            self.staging.clear()
        written = np.ones(state.position, bool)
        written[[index for index, _, _ in state.unreadable]] = False
        return create(self.staging.path, self.paths.class_names, self.source.labels[: state.position][written])

    def _write_one(self, state: _State, writer: SetWriter, image: Encoded) -> bool:
        """Whether this completes a part."""
        state.position = image.index + 1
        if image.error is not None:
            state.unreadable.append((image.index, self.source.name(image.index), image.error))
            self._check_unreadable(state, self.max_unreadable + _GIVE_UP_AFTER)
            return False
        path, before = self.paths[image.index], self.source.stored_path(image.index)
        writer.write(image.data, int(self.source.labels[image.index]), path)
        state.renamed += before not in ("", path)
        return state.digest.add(image.digest)

    def _note(self, state: _State, journal: Journal, writer: SetWriter) -> None:
        files = writer.checkpoint()
        if files is None:
            return
        for name in files:
            with (self.staging.folder / name).open("rb") as file:
                os.fsync(file.fileno())
        journal.add(state.entry(files))

    def _check_unreadable(self, state: _State, limit: int) -> None:
        count = len(state.unreadable)
        if count <= limit and count < len(self.source):
            return
        write_whole(self.staging.folder / UNREADABLE_FILE, _as_json({"unreadable": state.unreadable}))
        first = "; ".join(reason for _, _, reason in state.unreadable[:_NAMES_SHOWN])
        allow = f"With --max-unreadable {count} the same command goes on; to" if count < state.position else "To"
        raise UserError(
            f"{self.staging.destination}: {count:,} of {state.position:,} images cannot be read, and"
            f" {self.max_unreadable:,} may be left out ({first}{'; …' if count > _NAMES_SHOWN else ''}); all are listed"
            f" in {self.staging.folder / UNREADABLE_FILE}. {allow} read them again, remove {self.staging.folder} first"
        )

    def _describe(self, state: _State) -> None:
        """The class map and the manifest."""
        path = self.staging.path
        (self.staging.folder / UNREADABLE_FILE).unlink(missing_ok=True)
        write_class_map(path, self.paths.class_names)
        manifest = {
            "format": self.kind,
            "images": state.digest.images,
            "identities": len(self.paths.class_names),
            "content": state.digest.content,
            "images_of_a_part": PART,
            "parts": state.digest.parts if self.staging.format.ordered else [],
            "unreadable": [{"name": name, "reason": reason} for _, name, reason in state.unreadable],
        }
        write_whole(beside(path, MANIFEST), _as_json(manifest))


def _as_json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
