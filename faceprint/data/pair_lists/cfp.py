"""CFP's protocol folder: numbered frontal and profile images, and the pairs of each fold by number."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from faceprint.data.pair_lists.text import ListedPair, text_lines, whole
from faceprint.errors import UserError

_KINDS = {"FF": ("F", "F"), "FP": ("F", "P")}


def is_cfp(path: Path) -> bool:
    """Whether this is a folder `Split/FF` or `Split/FP` of CFP, or the one that holds `Split`."""
    return path.is_dir() and (path.name in _KINDS or (path / "Split").is_dir())


def read_cfp(path: Path) -> list[ListedPair]:
    """The pairs of `Protocol/Split/FP` (frontal with profile) or `Protocol/Split/FF` (frontal with frontal).

    Below it lie `NN/same.txt` and `NN/diff.txt`, a fold each; their lines are `i,j`, numbers of `Pair_list_F.txt` or,
    the second of FP, `Pair_list_P.txt` beside `Split`. There a line is `number path`; of a path such as
    `../Data/Images/001/profile/01.jpg` the last three parts count: person, kind and image.
    """
    if path.name not in _KINDS:
        raise UserError(f"{path}: CFP has two sets of pairs; give {path / 'Split' / 'FP'} or {path / 'Split' / 'FF'}")
    first, second = (_numbered(path.parent.parent / f"Pair_list_{kind}.txt") for kind in _KINDS[path.name])
    folds = sorted(folder for folder in path.iterdir() if folder.is_dir() and folder.name.isdecimal())
    pairs: list[ListedPair] = []
    for fold in folds:
        for name, same in (("same.txt", True), ("diff.txt", False)):
            for number, line in text_lines(fold / name):
                a, b = _two(fold / name, number, line)
                images = _image(first, a, fold / name, number), _image(second, b, fold / name, number)
                pairs.append(ListedPair(*images, same, int(fold.name)))
    if not pairs:
        raise UserError(f"{path}: no pairs; expected folders 01, 02 … with same.txt and diff.txt")
    return pairs


def _numbered(path: Path) -> dict[int, str]:
    images: dict[int, str] = {}
    for number, line in text_lines(path):
        fields = line.split(maxsplit=1)
        parts = PurePosixPath(fields[-1].strip().replace("\\", "/")).parts[-3:]
        if len(fields) != 2 or len(parts) != 3 or ".." in parts:
            raise UserError(
                f"{path}:{number}: expected `number path`, the path with person, kind, image: {line[:100]!r}"
            )
        images[whole(fields[0], path, number)] = "/".join(parts)
    return images


def _two(path: Path, number: int, line: str) -> tuple[int, int]:
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != 2:
        raise UserError(f"{path}:{number}: expected `i,j`, got {line[:100]!r}")
    return whole(fields[0], path, number), whole(fields[1], path, number)


def _image(images: dict[int, str], wanted: int, path: Path, number: int) -> str:
    if wanted not in images:
        raise UserError(f"{path}:{number}: there is no image {wanted} in Pair_list; it has {len(images):,}")
    return images[wanted]
