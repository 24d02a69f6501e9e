"""Lists of verification pairs: LFW `pairs.txt` and CSV. Names only, no image is looked for."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from faceprint.errors import UserError

NUM_FOLDS = 10
CSV_COLUMNS = ("path_a", "path_b", "same", "fold")
_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


class ListedPair(NamedTuple):
    """Two images by their paths below the folder of images (LFW: without extension), and what the list says."""

    first: str
    second: str
    same: bool
    fold: int


def read_pair_list(path: str | os.PathLike[str]) -> list[ListedPair]:
    """Read a list in either layout; which one, its first line tells. Raises `UserError` with file and line.

    LFW: the first line is `folds<TAB>pairs per kind`, or the number of pairs per kind alone (View 1); then for
    each fold so many lines `name a b` (one person, images a and b) and so many `name1 a name2 b` (two persons).
    Image a of `name` is `name/name_000a`; folds count from 1.

    CSV: a header with the columns path_a, path_b, same (1/0, true/false, yes/no) and, if wanted, fold (a whole
    number); others are ignored. Without folds each kind's pairs are split into ten blocks in the order listed,
    fewer where there are not ten of each kind.
    """
    lines = _lines(path)
    first = lines[0][1] if lines else ""
    if "," in first:
        return _parse_csv(path, lines)
    if first and all(field.isdecimal() for field in first.split()):
        return _parse_lfw(path, lines)
    raise UserError(
        f"{path}:1: neither a pairs.txt of LFW, which begins with a line such as '10<TAB>300', nor a CSV file,"
        f" which begins with {','.join(CSV_COLUMNS)}; it begins with {first[:60]!r}"
    )


def _lines(path: str | os.PathLike[str]) -> list[tuple[int, str]]:
    """(line number from 1, line) of the lines that are not blank."""
    try:
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file; give a list of pairs")
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file in UTF-8 (byte {error.start})") from error
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _parse_lfw(path: str | os.PathLike[str], lines: Sequence[tuple[int, str]]) -> list[ListedPair]:
    header = [_whole(field, path, lines[0][0]) for field in lines[0][1].split()]
    if len(header) > 2 or 0 in header:
        raise UserError(
            f"{path}:{lines[0][0]}: {lines[0][1][:60]!r}: expected the numbers of folds and of pairs per kind"
        )
    num_folds, per_kind = header if len(header) == 2 else (1, header[0])
    if len(lines) - 1 != 2 * num_folds * per_kind:
        raise UserError(
            f"{path}: {len(lines) - 1:,} pairs follow the first line, which announces"
            f" {num_folds} folds x 2 kinds x {per_kind:,} pairs"
        )
    pairs: list[ListedPair] = []
    for index, (number, line) in enumerate(lines[1:]):
        fold, place = divmod(index, 2 * per_kind)
        pairs.append(_lfw_pair(line, place < per_kind, fold + 1, path, number))
    return pairs


def _lfw_pair(line: str, same: bool, fold: int, path: str | os.PathLike[str], number: int) -> ListedPair:
    fields = [field.strip() for field in line.split("\t" if "\t" in line else None)]
    if len(fields) != (3 if same else 4):
        form = "'name a b' for a pair of one person" if same else "'name1 a name2 b' for a pair of two"
        raise UserError(f"{path}:{number}: {len(fields)} fields; here the line is {form}: {line[:100]!r}")
    name, a, other, b = fields if len(fields) == 4 else (fields[0], fields[1], fields[0], fields[2])
    return ListedPair(_lfw_image(name, a, path, number), _lfw_image(other, b, path, number), same, fold)


def _lfw_image(name: str, image: str, path: str | os.PathLike[str], number: int) -> str:
    if not name or name in (".", "..") or "/" in name or "\\" in name:
        raise UserError(f"{path}:{number}: {name[:100]!r} is not a person's name, which is a folder's name too")
    return f"{name}/{name}_{_whole(image, path, number):04d}"


def _parse_csv(path: str | os.PathLike[str], lines: Sequence[tuple[int, str]]) -> list[ListedPair]:
    names = _csv_fields(lines[0][1], path, lines[0][0])
    absent = [name for name in CSV_COLUMNS[:3] if name not in names]
    if absent:
        raise UserError(
            f"{path}:{lines[0][0]}: no column {', '.join(absent)}; the first line must name the columns, such as"
            f" {','.join(CSV_COLUMNS)}"
        )
    pairs: list[ListedPair] = []
    for number, line in lines[1:]:
        fields = _csv_fields(line, path, number)
        if len(fields) != len(names):
            raise UserError(f"{path}:{number}: {len(fields)} fields, the first line has {len(names)}")
        pairs.append(_csv_pair(dict(zip(names, fields, strict=True)), path, number))
    if not pairs:
        raise UserError(f"{path}: no pairs follow the first line")
    return pairs if "fold" in names else _spread_over_folds(pairs)


def _csv_pair(row: dict[str, str], path: str | os.PathLike[str], number: int) -> ListedPair:
    if not row["path_a"] or not row["path_b"]:
        raise UserError(f"{path}:{number}: an image without name")
    same = _FLAGS.get(row["same"].lower())
    if same is None:
        raise UserError(f"{path}:{number}: same is {row['same'][:40]!r}; allowed: {', '.join(_FLAGS)}")
    return ListedPair(row["path_a"], row["path_b"], same, _whole(row.get("fold", "0"), path, number))


def _csv_fields(line: str, path: str | os.PathLike[str], number: int) -> list[str]:
    """One line's fields. A quoted field may not run over lines, so a stray quote is found where it is."""
    try:
        return [field.strip() for field in next(csv.reader([line], strict=True))]
    except csv.Error as error:
        raise UserError(f"{path}:{number}: not CSV: {error}") from error


def _spread_over_folds(pairs: Sequence[ListedPair]) -> list[ListedPair]:
    same = np.array([pair.same for pair in pairs])
    num_folds = max(1, min(NUM_FOLDS, int(same.sum()), int((~same).sum())))
    fold = np.empty(len(pairs), np.int64)
    for kind in (same, ~same):
        blocks = np.array_split(np.flatnonzero(kind), num_folds)
        for number, block in enumerate(blocks, 1):
            fold[block] = number
    return [pair._replace(fold=number) for pair, number in zip(pairs, fold.tolist(), strict=True)]


def _whole(field: str, path: str | os.PathLike[str], number: int) -> int:
    if not (field.isascii() and field.isdecimal() and len(field) <= 9):
        raise UserError(f"{path}:{number}: {field[:40]!r} is not a whole number of at most nine digits")
    return int(field)
