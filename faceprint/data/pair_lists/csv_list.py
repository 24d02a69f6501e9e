"""Pairs as CSV with a header."""

from __future__ import annotations

import csv
from pathlib import Path

from faceprint.data.pair_lists.text import ListedPair, spread_over_folds, text_lines, whole
from faceprint.errors import UserError

CSV_COLUMNS = ("path_a", "path_b", "same", "fold")
_BFW_COLUMNS = {"p1": "path_a", "p2": "path_b", "label": "same", "att1": "group_a", "att2": "group_b"}
_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def is_csv(first: str) -> bool:
    """Whether the first line can be a header."""
    return "," in first


def read_csv(path: Path) -> list[ListedPair]:
    """A header with the columns path_a, path_b, same (1/0, true/false, yes/no) and, if wanted, fold (a whole number).

    The names of BFW's columns do as well (`csv_rows`), others are ignored. Without folds each kind's pairs are split
    into ten blocks in the order listed, fewer where there are not ten of each kind.
    """
    rows = csv_rows(path)
    absent = [name for name in CSV_COLUMNS[:3] if name not in rows[0][1]]
    if absent:
        raise UserError(
            f"{path}:1: no column {', '.join(absent)}; the first line must name the columns, such as"
            f" {','.join(CSV_COLUMNS)}"
        )
    pairs = [_csv_pair(row, path, number) for number, row in rows]
    return pairs if "fold" in rows[0][1] else spread_over_folds(pairs)


def csv_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, value of each column) of the lines that follow the header, at least one.

    The names of BFW's table (p1, p2, label, att1, att2) are read as path_a, path_b, same, group_a and group_b.
    """
    lines = text_lines(path)
    if not lines:
        raise UserError(f"{path}: empty; the first line must name the columns, such as {','.join(CSV_COLUMNS)}")
    given = _csv_fields(lines[0][1], path, lines[0][0])
    names = given if "path_a" in given else [_BFW_COLUMNS.get(name, name) for name in given]
    rows: list[tuple[int, dict[str, str]]] = []
    for number, line in lines[1:]:
        fields = _csv_fields(line, path, number)
        if len(fields) != len(names):
            raise UserError(f"{path}:{number}: {len(fields)} fields, the first line has {len(names)}")
        rows.append((number, dict(zip(names, fields, strict=True))))
    if not rows:
        raise UserError(f"{path}: no pairs follow the first line")
    return rows


def _csv_pair(row: dict[str, str], path: Path, number: int) -> ListedPair:
    if not row["path_a"] or not row["path_b"]:
        raise UserError(f"{path}:{number}: an image without name")
    same = _FLAGS.get(row["same"].lower())
    if same is None:
        raise UserError(f"{path}:{number}: same is {row['same'][:40]!r}; allowed: {', '.join(_FLAGS)}")
    return ListedPair(row["path_a"], row["path_b"], same, whole(row.get("fold", "0"), path, number))


def _csv_fields(line: str, path: Path, number: int) -> list[str]:
    """One line's fields. A quoted field may not run over lines, so a stray quote is found where it is."""
    try:
        return [field.strip() for field in next(csv.reader([line], strict=True))]
    except csv.Error as error:
        raise UserError(f"{path}:{number}: not CSV: {error}") from error
