"""Where a set is while it is being written, and how it takes its place in one step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from faceprint.data.class_map import CLASS_MAP, MANIFEST
from faceprint.data.formats import PARTIAL, Format
from faceprint.errors import UserError

JOURNAL = ".journal.jsonl"


@dataclass(frozen=True)
class Staging:
    """A set on its way to `destination`: the file `NAME.rec` with others beside it, or a folder.

    All its files are in the folder `destination.partial` until `publish`.
    """

    destination: Path
    format: Format

    @property
    def folder(self) -> Path:
        return self.destination.with_name(self.destination.name + PARTIAL)

    @property
    def journal(self) -> Path:
        return self.folder / JOURNAL

    @property
    def path(self) -> Path:
        """Where the writer is to write: the file or the folder that will be the set."""
        if self._is_file:
            return self.folder / self.destination.name
        return self.folder / self.format.main

    @property
    def beside(self) -> list[Path]:
        """The files that a set in one file brings with it."""
        names = (*self.format.beside, f"*.{CLASS_MAP}", f"*.{MANIFEST}") if self._is_file else ()
        return [self.destination.with_name(name.replace("*", self.destination.stem)) for name in names]

    @property
    def _is_file(self) -> bool:
        return bool(self.format.suffix) and self.destination.suffix == self.format.suffix

    def begin(self) -> None:
        """Make the folder, or find the one of an earlier run. Raises `UserError` where a name of the set is taken."""
        self._check_free(self.destination)
        if self._is_file and not self.folder.exists():  # else some may be there: it was killed while publishing
            for file in self.beside:
                self._check_free(file)
        if self.folder.exists() and not self.journal.is_file() and any(self.folder.iterdir()):
            raise UserError(f"{self.folder}: is in the way, and was not made by this command; remove or rename it")
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in self.folder.glob(f".*{PARTIAL}"):
            file.unlink()

    def clear(self) -> None:
        """Remove what a run left that cannot be gone on with."""
        for entry in [*self.folder.iterdir()]:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry != self.journal:
                entry.unlink()

    def publish(self) -> None:
        """Give the finished set its final name; killed in the middle, a second call completes it."""
        if self._is_file:
            self._publish_file()
        else:
            if self.destination.is_dir():
                self.destination.rmdir()
            os.rename(self.folder, self.destination)
            (self.destination / JOURNAL).unlink()

    def _publish_file(self) -> None:
        """The set's own file last: without it nothing takes the others for a set."""
        main = self.path
        others = [file for file in sorted(self.folder.iterdir()) if file not in (main, self.journal)]
        targets = [self.destination.with_name(file.name) for file in others]
        for target in targets:
            self._check_free(target)
        for file, target in zip(others, targets, strict=True):
            os.rename(file, target)
        os.rename(main, self.destination)
        shutil.rmtree(self.folder)

    def _check_free(self, path: Path) -> None:
        if path.is_dir() and not any(path.iterdir()):
            return
        if path.exists() or path.is_symlink():
            raise UserError(f"{path}: exists; choose a new name or another folder, or remove it")


def check_apart(stagings: Sequence[Staging]) -> None:
    """Raise `UserError` where two sets would bring one file, such as the `property` of a folder of `.rec` files."""
    owners: dict[Path, Path] = {}
    for staging in stagings:
        for file in staging.beside:
            other = owners.setdefault(file, staging.destination)
            if other != staging.destination:
                raise UserError(
                    f"{other} and {staging.destination}: each brings a file {file.name}; put each set into a folder of"
                    " its own"
                )
