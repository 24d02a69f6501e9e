"""The photographs to be aligned, wherever they lie: a folder of any shape, or any labelled set of `formats.FORMATS`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

from faceprint.data.formats import open_source, recognise
from faceprint.data.images import IMAGE_SUFFIXES, Image, files_below, read_image
from faceprint.data.source import Source
from faceprint.data.target_paths import folder_names
from faceprint.errors import UserError


@dataclass(frozen=True)
class Photograph:
    """One of them: its index, its name in reports, and the path of its crop, without the suffix, with slashes."""

    index: int
    name: str
    crop: str


class Photographs(Protocol):
    """What there is to align. `read` is picklable and small, and reads a photograph in any process.

    `read` raises `ImageError` where the photograph cannot be read.
    """

    @property
    def other_files(self) -> int:
        """Files that were passed over: hidden, no plain files, or with the extension of no image."""
        ...

    @property
    def read(self) -> Callable[[Photograph], Image]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Photograph: ...


def find_photographs(path: str | os.PathLike[str], kind: str | None = None) -> Photographs:
    """The photographs at `path`: of the `kind` given (a name of `FORMATS`), else what `path` is recognised as.

    A folder is searched to any depth, and its crops get the same paths; crops of other sets get
    `IDENTITY/NUMBER`, the number being the index in the set. Raises `UserError` where there are none, or two would
    share a crop.
    """
    root = Path(path)
    if (kind or recognise(path)) == "folder":
        return _FolderPhotographs(root, *_list_folder(root))
    source = _open(os.fspath(path), kind)
    return _SourcePhotographs(os.fspath(path), kind, source, folder_names(source.class_names))


@dataclass(frozen=True)
class _FolderPhotographs:
    root: Path
    names: Sequence[str]
    other_files: int

    @property
    def read(self) -> Callable[[Photograph], Image]:
        return partial(_read_from_folder, self.root)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Photograph:
        name = self.names[index]
        return Photograph(index, name, os.path.splitext(name)[0])


@dataclass(frozen=True)
class _SourcePhotographs:
    path: str
    kind: str | None
    source: Source
    folders: Sequence[str]
    """Of each identity."""
    other_files: int = 0

    @property
    def read(self) -> Callable[[Photograph], Image]:
        return partial(_read_from_source, self.path, self.kind)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Photograph:
        folder = self.folders[int(self.source.labels[index])]
        return Photograph(index, self.source.name(index), f"{folder}/{index:08d}")


def _read_from_folder(root: Path, photograph: Photograph) -> Image:
    return read_image(root / photograph.name)


def _read_from_source(path: str, kind: str | None, photograph: Photograph) -> Image:
    return _open(path, kind)[photograph.index][0]


@lru_cache(maxsize=1)
def _open(path: str, kind: str | None) -> Source:
    """Once a process: opening may mean reading an index of millions."""
    return open_source(path, kind)


def _list_folder(root: Path) -> tuple[list[str], int]:
    """Paths of the image files below `root`, sorted, and the number of other files."""
    names: list[str] = []
    others = 0
    for name, entry in files_below(root):
        if _is_photograph(entry):
            names.append(name)
        else:
            others += 1
    if not names:
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise UserError(f"{root}: no photographs in it or below ({others} other files); they end in {kinds}")
    names.sort()
    _refuse_shared_crops(root, names)
    return names, others


def _is_photograph(entry: os.DirEntry[str]) -> bool:
    hidden = entry.name.startswith(".")  # such as the "._name.jpg" that macOS leaves beside "name.jpg"
    return entry.name.lower().endswith(IMAGE_SUFFIXES) and not hidden and entry.is_file()


def _refuse_shared_crops(root: Path, names: Sequence[str]) -> None:
    owners: dict[str, str] = {}
    for name in names:
        crop = os.path.splitext(name)[0]
        other = owners.setdefault(crop, name)
        if other != name:
            raise UserError(f"{root}: {other} and {name} would both become one crop, {crop}; rename or remove one")
