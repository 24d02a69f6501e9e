"""Verification sets: pairs of images, each marked as one person or two, in folds."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from faceprint.data.bin import read_bin
from faceprint.data.draw_pairs import draw_pairs
from faceprint.data.fingerprint import bytes_fingerprint, files_fingerprint
from faceprint.data.images import IMAGE_SUFFIXES, Image, decode_image, read_image
from faceprint.data.pair_lists import NUM_FOLDS, read_pair_list
from faceprint.data.pixels import parse_size
from faceprint.data.synthetic import SyntheticFaces
from faceprint.errors import UserError
from faceprint.evaluation.embeddings import ImageSet
from faceprint.evaluation.metrics import contiguous_folds

Key = TypeVar("Key", bound=Hashable)
Ints = NDArray[np.int64]

NAMES_SHOWN = 20
MOST_SYNTHETIC = 100_000_000
"""Generated images that the numbers of a set may count."""
Folds = Annotated[
    Sequence[int],
    BeforeValidator(lambda value: [value] if isinstance(value, int) else value),
    BeforeValidator(lambda value: value.split(",") if isinstance(value, str) else value),
]
"""Numbers of folds; as an option also "1,2" or a single number."""
Size = Annotated[tuple[int, int], BeforeValidator(lambda value: parse_size(value) if isinstance(value, str) else value)]
"""Height and width in pixels; as an option also "112x96"."""


@dataclass(frozen=True, eq=False)
class PairSet:
    """P pairs of N distinct images. An image stands once in `names`, however many pairs it is in.

    `read(i)` gives image i as uint8 (H, W, 3) RGB, or raises `ImageError`; `names[i]` stands in messages.
    `first` and `second` (P,) are image numbers, `same` (P,) is true where both show one person, and `fold` (P,)
    names each pair's fold. With `resize_short`, images of another width than the network's are to be resized,
    the shorter side to that width, as the published rule for `.bin` has it; without, they are an error.
    `keys` (N,) say which row of a set of embeddings is image i's: a name as listed, or a row's number. `fingerprint()`
    changes when the images do; None: nothing says so.
    """

    protocol: str
    names: Sequence[str]
    read: Callable[[int], Image]
    first: Ints
    second: Ints
    same: NDArray[np.bool_]
    fold: Ints
    resize_short: bool = False
    keys: Sequence[str] | Sequence[int] = ()
    fingerprint: Callable[[], str] | None = None

    @property
    def images(self) -> ImageSet:
        """The images alone."""
        return ImageSet(self.names, self.read, self.fingerprint, self.keys, self.resize_short)


class MissingImagesError(UserError):
    """Images that a list of pairs names and the folder has not; `missing` holds all their names."""

    def __init__(self, images_dir: Path, missing: list[str], num_named: int) -> None:
        self.missing = missing
        shown = ", ".join(missing[:NAMES_SHOWN])
        more = f" and {len(missing) - NAMES_SHOWN:,} more" if len(missing) > NAMES_SHOWN else ""
        super().__init__(
            f"{images_dir} lacks {len(missing):,} of the {num_named:,} images that the pairs name"
            f" (looked for {' '.join(IMAGE_SUFFIXES)}): {shown}{more}"
        )

    def lines(self) -> list[str]:
        """One for each image."""
        return [f"missing: {name}" for name in self.missing]


def file_pairs(
    images: str | os.PathLike[str] | None,
    pairs: str | os.PathLike[str],
    folds: Folds | None = None,
    layout: str | None = None,
) -> PairSet:
    """The pairs that `pairs` lists, in a `layout` of `LAYOUTS` (None: recognised), of images below the folder `images`.

    An image is found under its listed name, or under that name with another extension of `IMAGE_SUFFIXES`. Without a
    folder (None) no image is looked for: such pairs are for embeddings that are there.
    `folds` keeps only the folds of these numbers, and only their images need be there. Raises `UserError` that
    names file and line, and `MissingImagesError`.
    """
    listed = read_pair_list(pairs, layout)
    keep = _kept(np.array([pair.fold for pair in listed], np.int64), folds, pairs)
    listed = [pair for pair, kept in zip(listed, keep.tolist(), strict=True) if kept]
    names, numbers = _number(name for pair in listed for name in (pair.first, pair.second))
    paths = names if images is None else _find_all(Path(images), names)
    return PairSet(
        protocol="pairs",
        names=paths,
        read=lambda i: read_image(paths[i]),
        first=numbers[0::2],
        second=numbers[1::2],
        same=np.array([pair.same for pair in listed], np.bool_),
        fold=np.array([pair.fold for pair in listed], np.int64),
        keys=names,
        fingerprint=lambda: files_fingerprint(paths),
    )


def bin_pairs(path: str | os.PathLike[str], folds: Folds | None = None) -> PairSet:
    """The pairs of a `.bin` verification set in ten contiguous folds, numbered from 1 (fewer pairs: one each).

    Images of another width than the network's are resized (`PairSet.resize_short`). `folds` keeps only the
    folds of these numbers. Raises `UserError` as `read_bin` does; images are decoded when they are read.
    """
    encoded, same = read_bin(path)
    fold = contiguous_folds(len(same), min(NUM_FOLDS, len(same)))
    keep = _kept(fold, folds, path)
    positions = np.flatnonzero(np.repeat(keep, 2))
    distinct, numbers = _number(encoded[position] for position in positions.tolist())
    first_use = positions[np.unique(numbers, return_index=True)[1]]
    names = [f"{path}: image {position}" for position in first_use.tolist()]
    return PairSet(
        protocol="bin",
        names=names,
        read=lambda i: decode_image(distinct[i], name=names[i]),
        first=numbers[0::2],
        second=numbers[1::2],
        same=same[keep],
        fold=fold[keep],
        resize_short=True,
        keys=first_use.tolist(),
        fingerprint=lambda: bytes_fingerprint(distinct),
    )


def synthetic_pairs(
    num_identities: int = 200,
    images_per_identity: int = 6,
    num_pairs: int = 2000,
    *,
    seed: int = 0,
    difficulty: float = 0.5,
    first_identity: int = 0,
    size: Size = (112, 112),
) -> PairSet:
    """Pairs of generated people, no pair twice: half same, half different (an odd one is same).

    Up to ten folds, numbered from 1, share no person. `seed` draws the pairs as well as the people; the other
    arguments are those of `SyntheticFaces`. Raises `UserError` where there are not that many pairs, and for more than
    `MOST_SYNTHETIC` images.
    """
    if num_identities < 2 or images_per_identity < 2 or num_pairs < 2:
        raise UserError(
            "pairs need at least 2 identities, 2 images_per_identity and 2 num_pairs; got"
            f" {num_identities}, {images_per_identity} and {num_pairs}"
        )
    if num_identities * images_per_identity > MOST_SYNTHETIC:
        raise UserError(
            f"{num_identities} identities of {images_per_identity} images; allowed: {MOST_SYNTHETIC:,} images in all"
        )
    faces = SyntheticFaces(
        num_identities,
        images_per_identity,
        size=size,
        difficulty=difficulty,
        seed=seed,
        first_identity=first_identity,
    )
    drawn = draw_pairs(np.random.default_rng(seed), np.full(num_identities, images_per_identity), num_pairs)
    images, numbers = np.unique(drawn.images, return_inverse=True)
    numbers = numbers.reshape(-1, 2)
    names = [faces.name(image) for image in images.tolist()]
    settings = f"{seed} {difficulty} {size}".encode()
    return PairSet(
        protocol="synthetic",
        names=names,
        read=lambda i: faces[int(images[i])][0],
        first=numbers[:, 0],
        second=numbers[:, 1],
        same=drawn.same,
        fold=drawn.fold,
        keys=names,
        # One image stands for how they are drawn, which may change from version to version.
        fingerprint=lambda: bytes_fingerprint([settings, faces[int(images[0])][0].tobytes()]),
    )


def _number(keys: Iterable[Key]) -> tuple[list[Key], Ints]:
    """The distinct keys in order of first use, and the number of each key given."""
    numbers: dict[Key, int] = {}
    given = [numbers.setdefault(key, len(numbers)) for key in keys]
    return list(numbers), np.array(given, np.int64)


def _kept(fold: Ints, folds: Sequence[int] | None, path: str | os.PathLike[str]) -> NDArray[np.bool_]:
    """True for the pairs (P,) whose fold is one of `folds`."""
    if folds is None:
        return np.ones(len(fold), np.bool_)
    present = np.unique(fold).tolist()
    absent = [number for number in folds if number not in present]
    if absent or not folds:
        raise UserError(
            f"{path}: it has no fold {', '.join(map(str, absent)) or '(none given)'}; its folds are"
            f" {', '.join(map(str, present[:NAMES_SHOWN]))}"
        )
    return np.isin(fold, folds)


def _find_all(folder: Path, names: Sequence[str]) -> list[str]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder of aligned images")
    found = [_find(folder, name) for name in names]
    paths = [path for path in found if path is not None]
    if len(paths) < len(names):
        missing = [name for name, path in zip(names, found, strict=True) if path is None]
        raise MissingImagesError(folder, missing, len(names))
    return paths


def _find(folder: Path, name: str) -> str | None:
    """The file below `folder` that holds image `name`."""
    stem, suffix = os.path.splitext(name)
    has_suffix = suffix.lower() in IMAGE_SUFFIXES
    stem = stem if has_suffix else name
    for candidate in [name] * has_suffix + [stem + other for other in IMAGE_SUFFIXES]:
        if os.path.isfile(folder / candidate):
            return str(folder / candidate)
    return None
