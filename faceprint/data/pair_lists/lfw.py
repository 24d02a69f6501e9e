"""LFW's `pairs.txt`, and the same without its first line, as RFW has it."""

from __future__ import annotations

from pathlib import Path

from faceprint.data.pair_lists.text import ListedPair, contiguous, fields_of, text_lines, whole
from faceprint.errors import UserError


def is_lfw(first: str) -> bool:
    """Whether the first line is `folds<TAB>pairs per kind`, or the number of pairs per kind alone (View 1)."""
    return bool(first) and all(field.isdecimal() for field in first.split())


def read_lfw(path: Path) -> list[ListedPair]:
    """For each fold so many lines `name a b` (one person, images a and b), then as many `name1 a name2 b` (two).

    Image a of `name` is `name/name_000a`; folds count from 1.
    """
    lines = text_lines(path)
    header = [whole(field, path, lines[0][0]) for field in lines[0][1].split()]
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


def _lfw_pair(line: str, same: bool, fold: int, path: Path, number: int) -> ListedPair:
    fields = fields_of(line)
    if len(fields) != (3 if same else 4):
        form = "'name a b' for a pair of one person" if same else "'name1 a name2 b' for a pair of two"
        raise UserError(f"{path}:{number}: {len(fields)} fields; here the line is {form}: {line[:100]!r}")
    name, a, other, b = fields if len(fields) == 4 else (fields[0], fields[1], fields[0], fields[2])
    return ListedPair(_lfw_image(name, a, path, number), _lfw_image(other, b, path, number), same, fold)


def _lfw_image(name: str, image: str, path: Path, number: int) -> str:
    if not name or name in (".", "..") or "/" in name or "\\" in name:
        raise UserError(f"{path}:{number}: {name[:100]!r} is not a person's name, which is a folder's name too")
    return f"{name}/{name}_{whole(image, path, number):04d}"


def is_rfw(first: str) -> bool:
    """Whether the first line is a pair already: `name a b` or `name1 a name2 b`."""
    fields = fields_of(first)
    return (len(fields) == 3 and fields[1].isdecimal() and fields[2].isdecimal()) or (
        len(fields) == 4 and fields[1].isdecimal() and fields[3].isdecimal()
    )


def read_rfw(path: Path) -> list[ListedPair]:
    """Lines as in LFW's list, but without a first line that says how many: what a line is, its fields tell.

    RFW has one such list for each of four groups, `African_pairs.txt` and so on, in ten blocks of 600 pairs; names have
    points in them. Ten contiguous folds, as its published evaluation has them.
    """
    pairs = [_lfw_pair(line, len(fields_of(line)) == 3, 1, path, number) for number, line in text_lines(path)]
    return contiguous(pairs)
