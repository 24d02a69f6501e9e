"""Lists of verification pairs, in the layouts that test sets come with. Names only, no image is looked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faceprint.data.pair_lists.cfp import is_cfp, read_cfp
from faceprint.data.pair_lists.csv_list import CSV_COLUMNS, csv_rows, is_csv, read_csv
from faceprint.data.pair_lists.flagged import is_agedb, is_calfw, read_agedb, read_calfw
from faceprint.data.pair_lists.lfw import is_lfw, is_rfw, read_lfw, read_rfw
from faceprint.data.pair_lists.text import NUM_FOLDS, ListedPair, person_of, text_lines
from faceprint.errors import UserError
from faceprint.registry import Table

__all__ = ["CSV_COLUMNS", "LAYOUTS", "NUM_FOLDS", "ListedPair", "csv_rows", "person_of", "read_pair_list"]


@dataclass(frozen=True)
class Layout:
    """One row: a layout is known by its first line, or, where it is a folder, by the folder."""

    read: Callable[[Path], list[ListedPair]]
    first_line: Callable[[str], bool] = lambda _: False
    folder: Callable[[Path], bool] = lambda _: False


LAYOUTS: Table[Layout] = Table(
    "layout of pairs",
    [
        ("lfw", Layout(read_lfw, first_line=is_lfw)),
        ("csv", Layout(read_csv, first_line=is_csv)),
        ("rfw", Layout(read_rfw, first_line=is_rfw)),
        ("calfw", Layout(read_calfw, first_line=is_calfw)),  # and CPLFW
        ("agedb", Layout(read_agedb, first_line=is_agedb)),
        ("cfp", Layout(read_cfp, folder=is_cfp)),
    ],
)


def read_pair_list(path: str | os.PathLike[str], layout: str | None = None) -> list[ListedPair]:
    """Read a list in the `layout` given, else in the one that its first line, or its folder, shows.

    Raises `UserError` with file and line.
    """
    where = Path(path)
    if layout is not None:
        return LAYOUTS[layout].read(where)
    if where.is_dir():
        matching = [row for row in LAYOUTS.values() if row.folder(where)]
        if not matching:
            raise UserError(
                f"{path}: no such file; give a list of pairs, or of CFP Protocol/Split/FP or Protocol/Split/FF"
            )
        return matching[0].read(where)
    lines = text_lines(where)
    first = lines[0][1] if lines else ""
    for row in LAYOUTS.values():
        if row.first_line(first):
            return row.read(where)
    raise UserError(
        f"{path}:1: neither a pairs.txt of LFW, which begins with a line such as '10<TAB>300', nor a CSV file, which"
        f" begins with {','.join(CSV_COLUMNS)}, nor of another known layout ({', '.join(LAYOUTS)}); it begins with"
        f" {first[:60]!r}"
    )
