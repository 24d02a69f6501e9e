"""Landmarks in files: the columns of our table beside crops, and the detector that looks faces up in such a file."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprint.data.detection import Face
from faceprint.data.extras import require
from faceprint.data.images import Image
from faceprint.errors import UserError

PARQUET = "landmarks.parquet"
CSV = "landmarks.csv"
"""The table beside crops is one or the other."""

BOX = ("box_x", "box_y", "box_width", "box_height")
POINTS = tuple(
    f"{point}_{axis}" for point in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth") for axis in "xy"
)
NUMBERS = (*BOX, *POINTS, "score")
COLUMNS = ("crop", "photograph", *NUMBERS)
"""Of one crop: its path below the folder of crops, what its source calls the photograph, and the face in pixels of the
photograph, as in `Face`."""

Row = tuple[str, str, tuple[float, ...]]
"""(crop, photograph, the numbers of `NUMBERS`)."""

_ROWS_A_READ = 65_536


def face_numbers(face: Face) -> tuple[float, ...]:
    """A face as the values of `NUMBERS`."""
    return (*face.box, *face.landmarks.ravel().tolist(), face.score)


def read_table(path: Path) -> Iterator[Row]:
    """The rows of a Parquet or CSV file with the columns `COLUMNS`; the box may be missing, and is NaN then, and so may
    the crop, which is "" then. Raises `UserError`."""
    yield from _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)


class LandmarkFile:
    """The faces that a file states for photographs: our own table, or IJB's `name_5pts_score`.

    A row of IJB's (space separated) is `name x1 y1 … x5 y5 score`, in the order of `Face.landmarks`. Where a file has
    no boxes, a face's is the smallest around its landmarks. Faces with a score below `score_threshold` are left out.
    A photograph is looked up by its path below the folder of photographs, or what else its source calls it. Raises
    `UserError` for a file that cannot be read, naming the line.
    """

    def __init__(self, path: str | os.PathLike[str], score_threshold: float = 0.0) -> None:
        where = Path(path)
        self._rows: dict[str, tuple[int, ...]] = {}
        kept = (row for row in _read_any(where) if row[2][-1] >= score_threshold)
        self._numbers = np.fromiter(chain.from_iterable(self._index(kept)), np.float32).reshape(-1, len(NUMBERS))

    def detect_batch(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Face]]:
        """As `Detector` has it; the images are not looked at."""
        return [[_face(self._numbers[at]) for at in self._rows.get(name, ())] for name in names]

    def _index(self, rows: Iterable[Row]) -> Iterator[tuple[float, ...]]:
        for at, (_, photograph, numbers) in enumerate(rows):
            self._rows[photograph] = (*self._rows.get(photograph, ()), at)
            yield numbers


def _face(numbers: NDArray[np.float32]) -> Face:
    landmarks = numbers[4:14].reshape(5, 2).astype(np.float64)
    x, y, width, height = numbers[:4].tolist()
    if not np.isfinite(numbers[:4]).all():
        (x, y), (width, height) = landmarks.min(axis=0).tolist(), np.ptp(landmarks, axis=0).tolist()
    return Face(box=(x, y, width, height), landmarks=landmarks, score=float(numbers[14]))


def _read_any(path: Path) -> Iterator[Row]:
    if path.suffix.lower() in (".parquet", ".csv"):
        return read_table(path)
    return read_ijb(path)


def read_ijb(path: Path) -> Iterator[Row]:
    """The rows of a `name_5pts_score` file of IJB, in its order, without box or crop. Raises `UserError`."""
    for number, line in enumerate(_lines(path), 1):
        fields = line.rsplit(maxsplit=len(POINTS) + 1)
        if not fields:
            continue
        if len(fields) != len(POINTS) + 2:
            raise UserError(f"{path}, line {number}: {len(fields)} fields; expected name x1 y1 … x5 y5 score, 12")
        yield "", fields[0], (*[np.nan] * 4, *_finite(fields[1:], path, number))


def _read_csv(path: Path) -> Iterator[Row]:
    rows = csv.reader(_lines(path))
    try:
        header = next(rows, [])
        at = _positions(header, path)
        for row in rows:
            if len(row) != len(header):
                raise UserError(f"{path}, line {rows.line_num}: {len(row)} fields; its header has {len(header)}")
            texts = [row[i] if i is not None else "" for i in at]
            box = [float("nan")] * 4 if "" in texts[2:6] else _finite(texts[2:6], path, rows.line_num)
            yield texts[0], texts[1], (*box, *_finite(texts[6:], path, rows.line_num))
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num}: not CSV ({error})") from error


def _read_parquet(path: Path) -> Iterator[Row]:
    parquet = require("pyarrow.parquet", "parquet", "Parquet files")
    try:
        with parquet.ParquetFile(path) as file:
            at = _positions(file.schema_arrow.names, path)
            wanted = [name for name, position in zip(COLUMNS, at, strict=True) if position is not None]
            for batch in file.iter_batches(_ROWS_A_READ, columns=wanted):
                yield from _parquet_rows(batch.to_pydict(), path)
    except UserError:
        raise
    except (OSError, ValueError, TypeError, NotImplementedError) as error:  # Arrow's errors are of these kinds
        raise UserError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from error


def _parquet_rows(columns: dict[str, list[Any]], path: Path) -> Iterator[Row]:
    count = len(columns["photograph"])
    nothing = [float("nan")] * count
    boxes = [columns.get(name, nothing) for name in BOX]
    others = [columns[name] for name in NUMBERS[4:]]
    crops = columns.get("crop", [""] * count)
    for number, values in enumerate(zip(crops, columns["photograph"], *boxes, *others, strict=True), 1):
        crop, photograph, *numbers = values
        box = [float("nan") if value is None else float(value) for value in numbers[:4]]
        yield str(crop), str(photograph), (*box, *_finite(numbers[4:], path, number))


def _positions(header: Sequence[str], path: Path) -> list[int | None]:
    """Where each of `COLUMNS` is in `header`; None for the crop and the box where they are missing."""
    missing = [name for name in COLUMNS if name not in header and name not in ("crop", *BOX)]
    if missing:
        raise UserError(f"{path}: has no column {', '.join(missing)}; needed are photograph, {', '.join(NUMBERS[4:])}")
    return [list(header).index(name) if name in header else None for name in COLUMNS]


def _finite(values: Iterable[Any], path: Path, line: int) -> list[float]:
    values = list(values)
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path}, line {line}: {' '.join(map(str, values))[:200]!r} are not all numbers") from error
    if not np.isfinite(numbers).all():
        raise UserError(f"{path}, line {line}: a landmark or score is not a finite number")
    return numbers


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file; a line that is too long is none."""
    longest = 1 << 16
    try:
        with path.open(encoding="utf-8", newline="") as file:
            while line := file.readline(longest):
                if len(line) == longest:
                    raise UserError(f"{path}: a line is longer than {longest:,} characters; not a file of landmarks")
                yield line
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 ({error.reason}); not a file of landmarks") from error
