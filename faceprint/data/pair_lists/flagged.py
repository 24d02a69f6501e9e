"""Lists that say of each image or pair whether it is one person: CALFW and CPLFW, and AgeDB-30."""

from __future__ import annotations

from pathlib import Path

from faceprint.data.images import IMAGE_SUFFIXES
from faceprint.data.pair_lists.text import ListedPair, contiguous, fields_of, spread_over_folds, text_lines
from faceprint.errors import UserError


def is_calfw(first: str) -> bool:
    """Whether the first line is an image and a flag."""
    fields = fields_of(first)
    return len(fields) == 2 and fields[0].lower().endswith(IMAGE_SUFFIXES) and fields[1].isdecimal()


def read_calfw(path: Path) -> list[ListedPair]:
    """Two lines a pair, each `image flag`; flag 0: two people, another: one. So are CALFW's and CPLFW's lists.

    They hold all pairs of one person first, then those of two; each half is cut into ten folds.
    """
    lines = text_lines(path)
    if len(lines) % 2:
        raise UserError(f"{path}: {len(lines):,} lines; a pair has two, `image flag` each")
    rows = [(number, _fields(path, number, line, "image flag")) for number, line in lines]
    pairs: list[ListedPair] = []
    for (number, (first, flag)), (_, (second, other)) in zip(rows[0::2], rows[1::2], strict=True):
        same = _flag(path, number, flag)
        if same != _flag(path, number + 1, other):
            raise UserError(f"{path}:{number}: the two lines of a pair say {flag} and {other}; they must agree")
        pairs.append(ListedPair(first, second, same, 1))
    return spread_over_folds(pairs)


def is_agedb(first: str) -> bool:
    """Whether the first line is two images and a flag."""
    fields = fields_of(first)
    return len(fields) == 3 and not fields[1].isdecimal() and fields[2] in ("1", "0", "-1")


def read_agedb(path: Path) -> list[ListedPair]:
    """`image image flag`, a pair a line; flag 1: one person, 0 or -1: two. So AgeDB-30 is passed around as text.

    Paths with spaces need tabs between the fields. Ten contiguous folds, as its published evaluation has them.
    """
    pairs: list[ListedPair] = []
    for number, line in text_lines(path):
        first, second, flag = _fields(path, number, line, "image image flag")
        pairs.append(ListedPair(first, second, _flag(path, number, flag), 1))
    return contiguous(pairs)


def _fields(path: Path, number: int, line: str, form: str) -> list[str]:
    fields = fields_of(line)
    if len(fields) != len(form.split()) or not all(fields):
        raise UserError(f"{path}:{number}: expected `{form}`, got {line[:100]!r}")
    return fields


def _flag(path: Path, number: int, flag: str) -> bool:
    if flag != "-1" and not (flag.isascii() and flag.isdecimal() and len(flag) <= 9):
        raise UserError(f"{path}:{number}: {flag[:40]!r} is no flag: 0 or -1 for two people, else a whole number")
    return flag != "-1" and int(flag) > 0
