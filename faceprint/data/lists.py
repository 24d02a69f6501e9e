"""Image lists: one line an image, with its identity."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from faceprint.data.files import FileSource, make_file_source
from faceprint.data.record_files import read_lst
from faceprint.errors import UserError

MISSING_SHOWN = 20


def image_list(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> FileSource:
    """The images of a list file: `path label`, `path<TAB>label`, CSV (commas or tabs) with a header that has `path` and
    `label`, or MXNet's `.lst`, `number<TAB>label[<TAB>label…]<TAB>path`, of which the first label counts.

    Labels are identity names or numbers, taken as text; paths are relative to `root` (the list's folder where None),
    and may hold spaces where tabs or CSV are used. Raises `UserError` for a malformed line (with its number) and for
    listed images that are absent (all counted, the first named).
    """
    file = Path(path)
    rows = read_image_list(file)
    folder = file.parent if root is None else Path(root)
    missing = [name for name, _ in rows if not os.path.isfile(folder / name)]
    if missing:
        shown = ", ".join(missing[:MISSING_SHOWN]) + (", …" if len(missing) > MISSING_SHOWN else "")
        raise UserError(f"{file}: {len(missing)} of {len(rows)} listed images are not in {folder}: {shown}")
    return make_file_source(folder, [name for name, _ in rows], [label for _, label in rows])


def read_image_list(file: Path) -> list[tuple[str, str]]:
    """(path, label) of each line of a list as `image_list` takes it; no image is looked for. Raises `UserError`."""
    try:
        text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")  # names of files may be any bytes
    except OSError as error:
        raise UserError(f"{file}: cannot be read as an image list ({error})") from error
    # Not splitlines: it also ends lines at characters that names of files may hold.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    read = _csv_rows if _separator(lines) else _lst_rows if _is_lst(lines) else _plain_rows
    rows = read(file, lines)
    if not rows:
        raise UserError(f"{file}: the list is empty")
    return rows


def _separator(lines: list[str]) -> str | None:
    """What is between the columns of a table whose header has `path` and `label`; None without such a header."""
    headers = {sign: [cell.strip().lower() for cell in lines[0].split(sign)] for sign in (",", "\t")}
    return next((sign for sign, header in headers.items() if "path" in header and "label" in header), None)


def _is_lst(lines: list[str]) -> bool:
    number, *rest = lines[0].split("\t")
    return number.isdecimal() and len(rest) >= 2


def _lst_rows(file: Path, lines: list[str]) -> list[tuple[str, str]]:
    """Labels are written as 7.000000; the identity is 7."""
    return [(entry.path, f"{entry.labels[0]:.17g}") for entry in read_lst(file)]


def _csv_rows(file: Path, lines: list[str]) -> list[tuple[str, str]]:
    reader = csv.DictReader(lines, skipinitialspace=True, delimiter=_separator(lines) or ",")
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or []]
    rows: list[tuple[str, str]] = []
    try:
        for row in reader:
            image, label = row["path"], row["label"]
            if not image or not label:
                raise UserError(f"{file}:{reader.line_num}: a row needs a path and a label")
            rows.append((image.strip(), label.strip()))
    except csv.Error as error:
        raise UserError(f"{file}:{reader.line_num}: cannot be read as CSV ({error})") from error
    return rows


def _plain_rows(file: Path, lines: list[str]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        fields = line.strip().split("\t") if "\t" in line else line.split()
        if len(fields) != 2:
            raise UserError(
                f"{file}:{number}: expected `path label` or `path<TAB>label`, got {line[:80]!r};"
                " paths with spaces need tabs or CSV"
            )
        rows.append((fields[0], fields[1]))
    return rows
