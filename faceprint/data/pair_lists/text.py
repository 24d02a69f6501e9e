"""What the layouts of pair lists share: pairs, lines, numbers and folds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from faceprint.errors import UserError

NUM_FOLDS = 10


class ListedPair(NamedTuple):
    """Two images by their paths below the folder of images (LFW: without extension), and what the list says."""

    first: str
    second: str
    same: bool
    fold: int


def person_of(image: str) -> str:
    """Whom the image at this listed path shows: its first folder, or NAME where it is NAME_0001.jpg in no folder."""
    folder, *inside = PurePath(image).parts
    return folder if inside else re.sub(r"_[0-9]+(\.[A-Za-z]+)?$", "", folder)


def text_lines(path: Path) -> list[tuple[int, str]]:
    """(line number from 1, line) of the lines that are not blank."""
    try:
        if not path.is_file():
            raise UserError(f"{path}: no such file; give a list of pairs")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file in UTF-8 (byte {error.start})") from error
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def fields_of(line: str) -> list[str]:
    """The fields of a line between tabs, or between spaces where it has no tab."""
    return [field.strip() for field in line.split("\t" if "\t" in line else None)]


def whole(field: str, path: Path, number: int) -> int:
    """A whole number in line `number` of `path`. Raises `UserError` for anything else."""
    if not (field.isascii() and field.isdecimal() and len(field) <= 9):
        raise UserError(f"{path}:{number}: {field[:40]!r} is not a whole number of at most nine digits")
    return int(field)


def spread_over_folds(pairs: Sequence[ListedPair]) -> list[ListedPair]:
    """The pairs in ten folds: each kind's are split into blocks in the order listed; fewer where there are not ten."""
    same = np.array([pair.same for pair in pairs])
    num_folds = max(1, min(NUM_FOLDS, int(same.sum()), int((~same).sum())))
    fold = np.empty(len(pairs), np.int64)
    for kind in (same, ~same):
        blocks = np.array_split(np.flatnonzero(kind), num_folds)
        for number, block in enumerate(blocks, 1):
            fold[block] = number
    return [pair._replace(fold=number) for pair, number in zip(pairs, fold.tolist(), strict=True)]


def contiguous(pairs: Sequence[ListedPair]) -> list[ListedPair]:
    """The pairs in ten folds, one block after the other in the order listed; fewer where there are not ten."""
    blocks = np.array_split(np.arange(len(pairs)), min(NUM_FOLDS, len(pairs)))
    return [pairs[index]._replace(fold=fold) for fold, block in enumerate(blocks, 1) for index in block.tolist()]
