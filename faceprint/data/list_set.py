"""Image lists of a set of files, in the three layouts that tools read."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from faceprint.data.files import FileSource
from faceprint.data.formats import open_source
from faceprint.data.name_list import NameList
from faceprint.data.path_names import with_names
from faceprint.data.rearrange import chosen
from faceprint.data.source import Source, keep_images
from faceprint.errors import UserError
from faceprint.files import write_whole
from faceprint.registry import Table

Row = tuple[str, int, str]
"""(path, label, identity) of one image."""


def list_set(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    absolute: bool = False,
    root: str | os.PathLike[str] | None = None,
    exclude: NameList | None = None,
    min_images: int = 1,
) -> Source:
    """Write the images of a folder (or of another list) to a list; returns what was listed, in that order.

    Those in `exclude`, and then identities with fewer than `min_images`, are left out.

    The end of `output` says how: `.txt` one line `path  label` an image, as the 2020 systems' generators write it;
    `.lst` `key<TAB>label<TAB>path`, as im2rec reads it, keys from 0; `.csv` with the columns `path`, `label` (the
    identity's name) and `number`. Labels are the numbers of the identities sorted by name, from 0, without gaps;
    images come in the order of identity and name, so that the same folder gives the same list.

    Paths are `absolute`, or relative to `root` (None: to the folder of the list, where `image_list` looks for them).
    Raises `UserError` where `source` has no files, the layout cannot hold a path, or `output` cannot be written.
    """
    target = Path(output)
    layout = LAYOUTS[target.suffix.lower()]
    files = open_source(source)
    if not isinstance(files, FileSource):
        raise UserError(f"{source}: its images are no files of their own; `faceprint data unpack` makes them")
    base = None if absolute else os.path.abspath(target.parent if root is None else root)
    kept = chosen(with_names(files), exclude=exclude, min_images=min_images)
    part = keep_images(files, kept.indices)
    rows = [
        (_path(part.name(index), base), int(label), part.class_names[int(label)])
        for index, label in enumerate(part.labels)
    ]
    write_whole(target, layout(rows).encode("utf-8", "surrogateescape"))
    return part


def _path(name: str, base: str | None) -> str:
    path = os.path.abspath(name)
    return Path(path if base is None else os.path.relpath(path, base)).as_posix()


def _text(rows: list[Row]) -> str:
    return "".join(f"{path}  {label}\n" for path, label, _ in _checked(rows, str.split))


def _im2rec(rows: list[Row]) -> str:
    lines = (f"{key}\t{label}\t{path}\n" for key, (path, label, _) in enumerate(_checked(rows, str.splitlines)))
    return "".join(lines)


def _csv(rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "number"])
    writer.writerows((path, name, label) for path, label, name in _checked(rows, str.splitlines))
    return text.getvalue()


def _checked(rows: list[Row], pieces: Callable[[str], list[str]]) -> Iterator[Row]:
    """The rows, whose paths must be in one of the `pieces` that a reader finds."""
    for row in rows:
        if pieces(row[0]) != [row[0]] or "\t" in row[0]:
            raise UserError(f"{row[0]!r}: a path that this list cannot hold; take .csv or .lst, or rename it")
        yield row


LAYOUTS: Table[Callable[[list[Row]], str]] = Table("list layout", [(".txt", _text), (".lst", _im2rec), (".csv", _csv)])
