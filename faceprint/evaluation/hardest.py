"""The pairs that a network finds hardest, as a picture: often wrong labels, else what it can't do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceprint.data.images import Image, ImageError
from faceprint.errors import UserError
from faceprint.evaluation.pairs import PairSet
from faceprint.files import write_whole

Ints = NDArray[np.int64]

COUNT = 20
_SIDE, _GAP, _LINE = 112, 12, 14
_INK, _ABSENT = (40, 40, 40), 160


def hardest(scores: ArrayLike, same: ArrayLike, count: int = COUNT) -> tuple[Ints, Ints]:
    """Numbers of the most similar different pairs and of the least similar same ones, hardest first; `count` at most.

    Of equal scores the earlier pair comes first.
    """
    if count < 1:
        raise UserError(f"{count} pairs can't be shown; give 1 or more")
    values, labels = np.asarray(scores, np.float64), np.asarray(same, np.bool_)
    different, genuine = np.flatnonzero(~labels), np.flatnonzero(labels)
    most_similar = different[np.argsort(-values[different], kind="stable")]
    least_similar = genuine[np.argsort(values[genuine], kind="stable")]
    return most_similar[:count], least_similar[:count]


def hardest_sheet(pairs: PairSet, scores: NDArray[np.float64], count: int = COUNT) -> Image:
    """uint8 (H, W, 3) RGB: the different pairs of `hardest` in the left column, the same ones in the right.

    Each with its score and the names of its images. One that cannot be read is a grey field.
    """
    titles = ("different people, most similar first", "same person, least similar first")
    columns = [
        _column(title, pairs, scores, chosen)
        for title, chosen in zip(titles, hardest(scores, pairs.same, count), strict=True)
    ]
    height = max(len(column) for column in columns)
    return np.concatenate([_padded(column, height) for column in columns], axis=1)


def write_hardest(path: Path, pairs: PairSet, scores: NDArray[np.float64], count: int = COUNT) -> None:
    """Write `hardest_sheet` as PNG, whole or not at all. Raises `UserError` where `path` cannot be written."""
    sheet = hardest_sheet(pairs, scores, count)
    write_whole(path, cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())


def _column(title: str, pairs: PairSet, scores: NDArray[np.float64], chosen: Ints) -> Image:
    rows = [_text([title], 2 * _GAP)]
    for pair in chosen.tolist():
        a, b = int(pairs.first[pair]), int(pairs.second[pair])
        names = [f"{scores[pair]:.4f}", *(_short(pairs.names[number]) for number in (a, b))]
        rows.append(np.concatenate([_faces(pairs, [a, b]), _text(names, _SIDE + _GAP)], axis=1))
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    )


def _faces(pairs: PairSet, numbers: Sequence[int]) -> Image:
    canvas = np.full((_SIDE + _GAP, 2 * (_SIDE + _GAP), 3), 255, np.uint8)
    for place, number in enumerate(numbers):
        left = _GAP + place * (_SIDE + _GAP // 2)
        canvas[:_SIDE, left : left + _SIDE] = _face(pairs, number)
    return canvas


def _face(pairs: PairSet, number: int) -> Image:
    try:
        return cv2.resize(pairs.read(number), (_SIDE, _SIDE)).astype(np.uint8, copy=False)
    except ImageError:  # its pair was scored all the same, as a miss
        return np.full((_SIDE, _SIDE, 3), _ABSENT, np.uint8)


def _text(lines: Sequence[str], height: int) -> Image:
    canvas = np.full((height, 300, 3), 255, np.uint8)
    for number, line in enumerate(lines, 1):
        cv2.putText(canvas, line, (_GAP, number * _LINE), cv2.FONT_HERSHEY_DUPLEX, 0.38, _INK, 1, cv2.LINE_AA)
    return canvas


def _short(name: str) -> str:
    """The last two parts of a path, in ASCII, which is what OpenCV can draw."""
    text = "/".join(PurePath(name).parts[-2:])
    return text.encode("ascii", "replace").decode()[-40:]


def _padded(column: Image, height: int) -> Image:
    return np.pad(column, ((0, height - len(column)), (0, 0), (0, 0)), constant_values=255)
