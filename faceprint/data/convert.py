"""From sets on disk to sets on disk: the conversions that `faceprint data` offers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from faceprint.data.formats import FORMATS, open_source, recognise
from faceprint.data.path_names import with_names
from faceprint.data.source import Source
from faceprint.data.storage import is_url
from faceprint.errors import UserError


def open_for(sources: Sequence[str], destinations: Sequence[Path]) -> list[Source]:
    """Open the sets at `sources`, of which none may hold or be held by one of the `destinations`, which must differ.

    Identities that are numbers get the names of their folders (`with_names`).
    """
    targets = [Path(os.path.realpath(path)) for path in destinations]
    if len(set(targets)) < len(targets):
        raise UserError(f"{', '.join(map(str, destinations))}: a name is given twice; each set needs its own")
    for path in sources:
        if is_url(path):
            continue
        origin = Path(os.path.realpath(path))
        for target in targets:
            if origin.is_dir() and origin in (target, *target.parents):
                raise UserError(f"{target}: lies inside {path}; choose a place outside of it")
            if target in origin.parents:
                raise UserError(f"{path}: lies inside {target}, which is to be written; choose another place")
    return [with_names(open_source(path)) for path in sources]


def format_of(destination: Path, kind: str | None, otherwise: str | None = None) -> str:
    """Name of the format to write: `kind`, else the one whose sets end like `destination`, else `otherwise`."""
    if kind is not None:
        FORMATS[kind]
        return kind
    suffix = destination.suffix.lower()
    found = next((name for name, row in FORMATS.items() if row.suffix and row.suffix == suffix), otherwise)
    if found is None:
        ends = ", ".join(f"{row.suffix} ({name})" for name, row in FORMATS.items() if row.suffix)
        names = ", ".join(name for name, row in FORMATS.items() if row.create)
        raise UserError(f"{destination}: its end does not say which format to write: {ends}; or --to with {names}")
    return found


def format_like(source: str, destination: Path, kind: str | None, *, ordered: bool = False) -> str:
    """`format_of`, where nothing else says it the format of `source`, or a folder where that is only read.

    Raises `UserError` where the format must be `ordered` and is not.
    """
    own = recognise(source)
    found = format_of(destination, kind, own if FORMATS[own].create else "folder")
    if ordered and not FORMATS[found].ordered:
        names = ", ".join(name for name, row in FORMATS.items() if row.create and row.ordered)
        raise UserError(f"{destination}: format {found!r} keeps no order of images; give --to with {names}")
    return found
