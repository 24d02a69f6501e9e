"""Files that lie beside a set, and the one that says what its labels are called."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from faceprint.data.storage import is_url, open_file
from faceprint.errors import UserError
from faceprint.files import write_whole

CLASS_MAP = "classes.txt"
"""One name a line: the n-th line is the identity of label n, from 0."""

MANIFEST = "manifest.json"
"""What was written, with checksums."""


def beside(path: Path, name: str) -> Path:
    """Where the file `name` of the set at `path` lies: in it for a folder, `train.NAME` for `train.rec`."""
    return path / name if path.is_dir() else path.with_suffix(f".{name}")


def write_class_map(path: Path, class_names: Sequence[str]) -> None:
    """Write the class map of the set at `path`. Raises `UserError` for a name that holds a line end."""
    broken = next((name for name in class_names if "\n" in name), None)
    if broken is not None:
        raise UserError(f"the name {broken!r} of an identity holds a line end; rename it")
    text = "".join(f"{name}\n" for name in class_names)
    write_whole(beside(path, CLASS_MAP), text.encode("utf-8", "surrogateescape"))


def read_class_map(path: Path) -> list[str] | None:
    """The names of the labels of the set at `path`, None where no class map lies beside it. Raises `UserError`."""
    file = beside(path, CLASS_MAP)
    try:
        return parse_class_map(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from error


def parse_class_map(content: bytes) -> list[str]:
    """The names in a class map."""
    return content.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")


def read_class_names(file: str) -> list[str] | None:
    """The class map of a shard or Parquet file, a path or a URL, or that in its folder; None where there is none."""
    if not is_url(file):
        return read_class_map(Path(file)) or read_class_map(Path(file).parent)
    try:
        with open_file(f"{os.path.dirname(file)}/{CLASS_MAP}", sequential=True) as names:
            return parse_class_map(names.read())
    except Exception:
        return None  # servers say in many ways that a file is not there
