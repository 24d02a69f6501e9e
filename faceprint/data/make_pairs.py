"""Verification pairs from any labelled set, and the files to keep them in."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from faceprint.data.bin import write_bin
from faceprint.data.draw_pairs import DrawnPairs, draw_pairs
from faceprint.data.files import FileSource
from faceprint.data.pair_lists import CSV_COLUMNS, NUM_FOLDS
from faceprint.data.source import Source
from faceprint.errors import UserError
from faceprint.files import write_csv, write_whole

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Images that pairs are drawn from: `images` (N,) of the source, person by person, `counts` of each person.

    `order` is the order in which the people are cut into folds.
    """

    images: Ints
    counts: Ints
    order: Ints


def choose_candidates(source: Source, random: np.random.Generator, max_images: int) -> Candidates:
    """Up to `max_images` of each identity, at random: or the few with hundreds would be in most of the pairs."""
    if max_images < 1:
        raise UserError(f"max_images {max_images}: give 1 or more")
    if len(source.class_names) < 2:
        raise UserError(f"pairs need at least 2 identities, the set has {len(source.class_names)}")
    shuffled = random.permutation(len(source))
    images = shuffled[np.argsort(source.labels[shuffled], kind="stable")]
    all_counts = np.bincount(source.labels, minlength=len(source.class_names))
    place = np.arange(len(images)) - np.repeat(np.cumsum(all_counts) - all_counts, all_counts)
    counts = np.minimum(all_counts, max_images)
    return Candidates(images[place < max_images], counts, random.permutation(len(counts)))


def random_pairs(
    source: Source, num_pairs: int, *, folds: int = NUM_FOLDS, seed: int = 0, max_images: int = 20
) -> DrawnPairs:
    """`num_pairs` pairs of images of `source` by its numbers, half of one identity, half of two, none twice.

    Folds share no identity; `seed` decides everything. Raises `UserError` where there are not as many.
    """
    if num_pairs < 2 or folds < 1:
        raise UserError(f"num_pairs {num_pairs} and folds {folds}: give at least 2 pairs and 1 fold")
    random = np.random.default_rng(seed)
    candidates = choose_candidates(source, random, max_images)
    drawn = draw_pairs(random, candidates.counts, num_pairs, order=candidates.order, folds=folds)
    return DrawnPairs(candidates.images[drawn.images], drawn.same, drawn.fold)


def pair_writer(path: Path, source: Source) -> Callable[[DrawnPairs], None]:
    """What writes pairs of `source` to `path`: `.bin`, `.csv`, or `.txt`, the layout of LFW.

    Raises `UserError` for another extension, and where the layout cannot name the images: `.csv` and `.txt` need a
    set of single files, `.txt` files named NAME/NAME_0001. The writers raise it where folds are lost.
    """
    if path.suffix.lower() == ".bin":
        return lambda pairs: _write_bin(path, source, pairs)
    if path.suffix.lower() not in (".csv", ".txt"):
        raise UserError(f"{path}: pairs are written as .csv, .txt (the layout of LFW) or .bin")
    if not isinstance(source, FileSource):
        raise UserError(f"{path}: a list of pairs names image files, and this set has none; write a .bin")
    if path.suffix.lower() == ".csv":
        return lambda pairs: _write_csv(path, source, pairs)
    return lambda pairs: _write_lfw(path, source, pairs)


def _write_csv(path: Path, source: FileSource, pairs: DrawnPairs) -> None:
    rows = zip(*_columns(pairs), pairs.same.tolist(), pairs.fold.tolist(), strict=True)
    lines = ((source.paths[a], source.paths[b], int(same), fold) for a, b, same, fold in rows)
    write_csv(path, CSV_COLUMNS, lines)


def _write_lfw(path: Path, source: FileSource, pairs: DrawnPairs) -> None:
    per_kind, folds = _equal_folds(path, pairs)
    lines = [f"{folds}\t{per_kind}"]
    for a, b, same in zip(*_columns(pairs), pairs.same.tolist(), strict=True):
        (name, number), (other, second) = _lfw_name(path, source.paths[a]), _lfw_name(path, source.paths[b])
        lines.append("\t".join([name, number, second] if same else [name, number, other, second]))
    write_whole(path, ("\n".join(lines) + "\n").encode(errors="surrogateescape"))


def _columns(pairs: DrawnPairs) -> tuple[list[int], list[int]]:
    return pairs.images[:, 0].tolist(), pairs.images[:, 1].tolist()


def _lfw_name(path: Path, image: str) -> tuple[str, str]:
    """(name, number) of `name/name_0001.jpg`."""
    parts = PurePosixPath(image.replace("\\", "/"))
    match = re.fullmatch(r"(.+)_([0-9]{4,9})", parts.stem)
    if match is None or match[1] != str(parts.parent) or match[2] != f"{int(match[2]):04d}":
        raise UserError(f"{path}: LFW's layout names images NAME/NAME_0001, not {image}; write a .csv")
    return match[1], str(int(match[2]))


def _write_bin(path: Path, source: Source, pairs: DrawnPairs) -> None:
    check_folds(path, pairs)
    write_bin(path, [source.encoded(index) for index in pairs.images.ravel().tolist()], pairs.same)


def check_folds(path: Path, pairs: DrawnPairs) -> None:
    """Raise `UserError` where the layout of `path` cannot say which folds `pairs` are in."""
    if path.suffix.lower() != ".csv":
        _, folds = _equal_folds(path, pairs)
        if path.suffix.lower() == ".bin" and folds != NUM_FOLDS:
            raise UserError(f"{path}: a .bin has {NUM_FOLDS} folds, the pairs have {folds}; write a .csv")


def _equal_folds(path: Path, pairs: DrawnPairs) -> tuple[int, int]:
    """(pairs per kind of a fold, folds); an error where folds differ, which these layouts cannot say."""
    folds = int(pairs.fold.max())
    sizes = {
        int(((pairs.fold == fold) & (pairs.same == kind)).sum()) for fold in range(1, folds + 1) for kind in (0, 1)
    }
    if len(sizes) != 1:
        raise UserError(
            f"{path}: this layout needs folds of one size; {len(pairs.same):,} pairs make {folds} unequal ones:"
            f" choose a multiple of {2 * folds}, or write a .csv"
        )
    return sizes.pop(), folds
