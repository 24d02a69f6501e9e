"""The files of IJB-B and IJB-C, as InsightFace arranges them: what they hold, and whether it is all there."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceprint.data.landmarks import read_ijb
from faceprint.errors import UserError
from faceprint.evaluation.templates import rows_of
from faceprint.registry import Table

Ints = NDArray[np.int64]

_BLOCK = 1 << 24
_LONGEST = 4096


@dataclass(frozen=True)
class Edition:
    """Counts of one of the two sets, and `galleries`, the ends of the names of its 1:N galleries.

    `first_gallery`, `second_gallery` and `probes` are the templates of its 1:N lists; None: not established.
    """

    title: str
    faces: int
    templates: int
    pairs: int
    genuine: int
    galleries: tuple[str, str]
    first_gallery: int | None = None
    second_gallery: int | None = None
    probes: int | None = None


EDITIONS: Table[Edition] = Table(
    "IJB set",
    [
        ("ijbb", Edition("IJB-B", 227_630, 12_115, 8_010_270, 10_270, ("S1", "S2"))),
        ("ijbc", Edition("IJB-C", 469_375, 23_124, 15_658_489, 19_557, ("G1", "G2"), 1772, 1759, 19_593)),
    ],
)
"""Counts: insightface `ijb_evals.py` (IJB-B); Maze et al., "IARPA Janus Benchmark - C", 2018 (IJB-C)."""


@dataclass(frozen=True, eq=False)
class Faces:
    """N crops in the order of the file: `names` as listed, `templates` and `media` (N,)."""

    names: list[str]
    templates: Ints
    media: Ints

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Landmarks:
    """`points` (N, 5, 2) float32 in pixels of the loose crops, and the detector's `scores` (N,) float32."""

    points: NDArray[np.float32]
    scores: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TemplatePairs:
    """P pairs: rows `first` and `second` (P,) of the templates in the order of their numbers, and `same` (P,)."""

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    same: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Enrolled:
    """Templates with the numbers of the people they show, (T,) each."""

    templates: Ints
    subjects: Ints


def read_faces(path: Path) -> Faces:
    """A file of lines `name template medium`. Raises `UserError` that names file and line."""
    names: list[str] = []
    numbers: list[int] = []
    for number, line in _lines(path):
        fields = line.split()
        if len(fields) != 3:
            raise UserError(f"{path}, line {number}: {len(fields)} fields; expected name, template, medium")
        names.append(fields[0])
        numbers += [_whole(field, path, number) for field in fields[1:]]
    if not names:
        raise UserError(f"{path}: is empty; expected lines of name, template, medium")
    table = np.array(numbers, np.int64).reshape(-1, 2)
    return Faces(names, table[:, 0].copy(), table[:, 1].copy())


def read_landmarks(path: Path, faces: Faces) -> Landmarks:
    """A file of lines `name x1 y1 … x5 y5 score`, line for line of the images of `faces`. Raises `UserError`."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; it has the landmarks and the detector's score of each crop")
    numbers = np.empty((len(faces), 11), np.float32)
    count = 0
    for _, name, values in islice(read_ijb(path), len(faces) + 1):
        if count < len(faces) and name != faces.names[count]:
            raise UserError(f"{path}: face {count + 1} is {name}, in the file of templates {faces.names[count]}")
        if count < len(faces):
            numbers[count] = values[4:]
        count += 1
    if count != len(faces):
        more = "more" if count > len(faces) else f"only {count:,}"
        raise UserError(f"{path}: has {more} faces, the file of templates {len(faces):,}; both are of one set")
    return Landmarks(numbers[:, :10].reshape(-1, 5, 2), numbers[:, 10])


def read_template_pairs(path: Path, templates: Ints) -> TemplatePairs:
    """A file of lines `template template 0|1`; `templates` are the numbers there are, rising. Raises `UserError`.

    Read in blocks; kept are nine bytes a pair.
    """
    parts = [_pair_block(block, path, templates) for block in _blocks(path)]
    if not parts:
        raise UserError(f"{path}: is empty; expected lines of template, template, 0 or 1")
    first, second, same = (np.concatenate(column) for column in zip(*parts, strict=True))
    return TemplatePairs(first, second, same)


def read_enrolled(path: Path) -> Enrolled:
    """A CSV file with a header whose first columns are TEMPLATE_ID and SUBJECT_ID; each template once, as there is a
    line an image. Raises `UserError`, also for a template of two subjects."""
    rows = _csv_rows(path)
    table = np.array([[_whole(field, path, number) for field in row[:2]] for number, row in rows], np.int64)
    if not len(table):
        raise UserError(f"{path}: has no rows; expected TEMPLATE_ID,SUBJECT_ID,… in each")
    unique = np.unique(table, axis=0)
    repeated = unique[1:, 0][np.diff(unique[:, 0]) == 0]
    if len(repeated):
        raise UserError(f"{path}: template {repeated[0]} has two subjects")
    return Enrolled(unique[:, 0], unique[:, 1])


def check_counts(edition: str, counts: dict[str, int], *, other_sizes: bool) -> dict[str, dict[str, int]]:
    """What of `counts`, named as in `Edition`, is not as published: name -> {"found", "published"}.

    Raises `UserError` for any difference, unless `other_sizes`.
    """
    published = EDITIONS[edition]
    wanted = {name: count for name in counts if (count := getattr(published, name)) is not None}
    wrong = {
        name: {"found": counts[name], "published": count} for name, count in wanted.items() if counts[name] != count
    }
    if wrong and not other_sizes:
        said = "; ".join(f"{each['found']:,} {name}, not {each['published']:,}" for name, each in wrong.items())
        raise UserError(
            f"this is not {published.title} as published: {said}; its figure would not be comparable. Get the whole"
            " set, or give other_sizes=true, which writes the difference beside the result"
        )
    return wrong


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of the lines that are not blank."""
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            while line := file.readline(_LONGEST):
                number += 1
                if len(line) == _LONGEST:
                    raise UserError(f"{path}, line {number}: longer than {_LONGEST} characters")
                if line.strip():
                    yield number, line
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 ({error.reason})") from error


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    lines = list(_lines(path))
    header = [name.strip().upper() for name in lines[0][1].split(",")[:2]] if lines else []
    if header != ["TEMPLATE_ID", "SUBJECT_ID"]:
        raise UserError(f"{path}: its header begins with {','.join(header)!r}, not TEMPLATE_ID,SUBJECT_ID")
    try:
        for (number, _), row in zip(lines[1:], csv.reader(line for _, line in lines[1:]), strict=True):
            if len(row) < 2:
                raise UserError(f"{path}, line {number}: {len(row)} field; expected TEMPLATE_ID,SUBJECT_ID,…")
            yield number, row
    except (csv.Error, ValueError) as error:
        raise error if isinstance(error, UserError) else UserError(f"{path}: not CSV ({error})") from error


def _whole(field: str, path: Path, number: int) -> int:
    text = field.strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise UserError(f"{path}, line {number}: {text[:40]!r} is not a whole number of at most nine digits")
    return int(text)


def _blocks(path: Path) -> Iterator[bytes]:
    """The file in pieces of whole lines."""
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block + file.readline(_LONGEST)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def _pair_block(
    block: bytes, path: Path, templates: Ints
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    lines = block.count(b"\n") + (not block.endswith(b"\n"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a piece of text that is no number is a warning to NumPy
        try:
            numbers = np.fromstring(block.decode("ascii"), np.int64, sep=" ")
        except (ValueError, DeprecationWarning) as error:
            raise UserError(f"{path}: holds something else than template, template, 0 or 1 in a line") from error
    if len(numbers) != 3 * lines:
        raise UserError(f"{path}: {lines:,} lines have {len(numbers):,} numbers; expected template, template, 0 or 1")
    table = numbers.reshape(-1, 3)
    if not np.isin(table[:, 2], (0, 1)).all():
        raise UserError(f"{path}: the third number of a line must be 0 or 1")
    first, second = (rows_of(templates, table[:, column]).astype(np.int32) for column in (0, 1))
    return first, second, table[:, 2].astype(np.bool_)
