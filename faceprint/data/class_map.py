"""Files that lie beside a set, and the one that says what its labels are called."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from faceprint.errors import UserError
from faceprint.files import write_whole

CLASS_MAP = "classes.json"
"""A JSON list of names: the n-th is the identity of label n, from 0."""


def beside(path: Path, name: str) -> Path:
    """Where the file `name` of the set at `path` lies: in it for a folder, `train.NAME` for `train.rec`."""
    return path / name if path.is_dir() else path.with_suffix(f".{name}")


def write_class_map(path: Path, class_names: Sequence[str]) -> None:
    """Write the class map of the set at `path`. Raises `UserError`."""
    write_whole(beside(path, CLASS_MAP), (json.dumps([*class_names], indent=0, ensure_ascii=False) + "\n").encode())


def read_class_map(path: Path) -> list[str] | None:
    """The names of the labels of the set at `path`, None where no class map lies beside it. Raises `UserError`."""
    file = beside(path, CLASS_MAP)
    try:
        names: object = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: cannot be read as a class map ({error})") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in cast("list[object]", names)):
        raise UserError(f"{file}: a class map is a JSON list of names; remove the file to go by numbers")
    return cast("list[str]", names)
