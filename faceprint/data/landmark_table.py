"""`landmarks.parquet`: where the face of each crop was found, complete however often the run was stopped."""

from __future__ import annotations

import csv
import os
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

from faceprint.data.extras import require
from faceprint.data.landmarks import COLUMNS, CSV, NUMBERS, PARQUET, Row, read_table
from faceprint.errors import UserError

UNFINISHED = "landmarks.unfinished.sqlite"

_ROWS_A_WRITE = 65_536


class LandmarkTable:
    """The rows (`landmarks.COLUMNS`) of the crops in `folder`, which must exist.

    While a run works, they are in an SQLite database: a row that `add` returned from is there after the process is
    killed, each crop has one row, and memory does not grow with their number. `finish` writes them in the order of
    the crops' paths to `landmarks.parquet`, or `landmarks.csv` where pyarrow (extra `parquet`) is not installed, and
    removes the database; another table of the same folder starts from that file. For one process at a time. Raises
    `UserError` where something cannot be read or written.
    """

    def __init__(self, folder: Path, *, wait_seconds: float = 5.0) -> None:
        self._folder = folder
        self._path = folder / UNFINISHED
        with self._errors():
            self._database = sqlite3.connect(self._path, timeout=wait_seconds, isolation_level=None)
        try:
            self._begin()
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> LandmarkTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def __contains__(self, crop: str) -> bool:
        with self._errors():
            return self._database.execute("SELECT 1 FROM faces WHERE crop = ?", (_text(crop),)).fetchone() is not None

    def __len__(self) -> int:
        with self._errors():
            return int(self._database.execute("SELECT COUNT(*) FROM faces").fetchone()[0])

    def add(self, rows: Iterable[Row]) -> None:
        """Keep `rows`; a crop that has one already gets the new one."""
        with self._errors(), self._transaction():
            self._insert(rows)

    def finish(self) -> Path | None:
        """Write the table and remove the database; the file, or None where there are no rows and so no file."""
        target = self._folder / (PARQUET if find_spec("pyarrow") else CSV) if len(self) else None
        if target is not None:
            _write(target, self._rows())
        self._database.close()
        for name in {PARQUET, CSV, UNFINISHED} - {target.name if target else ""}:
            (self._folder / name).unlink(missing_ok=True)
        return target

    def _begin(self) -> None:
        """Create the database, with the rows of an earlier run: all of it or nothing."""
        columns = ", ".join(f"{name} REAL" for name in NUMBERS)
        with self._errors(), self._transaction():
            if self._database.execute("PRAGMA user_version").fetchone()[0]:
                return
            self._database.execute(
                f"CREATE TABLE faces (crop TEXT PRIMARY KEY, photograph TEXT, {columns}) WITHOUT ROWID"
            )
            for name in (CSV, PARQUET):
                if (self._folder / name).exists():
                    self._insert(read_table(self._folder / name))
            self._database.execute("PRAGMA user_version = 1")

    def _insert(self, rows: Iterable[Row]) -> None:
        places = ", ".join("?" * len(COLUMNS))
        values = ((_text(crop), _text(photograph), *numbers) for crop, photograph, numbers in rows)
        self._database.executemany(f"INSERT OR REPLACE INTO faces VALUES ({places})", values)

    def _rows(self) -> Iterator[list[tuple[Any, ...]]]:
        with self._errors(), closing(self._database.execute("SELECT * FROM faces ORDER BY crop")) as cursor:
            while rows := cursor.fetchmany(_ROWS_A_WRITE):
                yield rows

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UserError(
                f"{self._path}: cannot be used ({error}); where another run works in this folder, wait for it, "
                "otherwise remove the file: what has no row is done again"
            ) from error


def _text(name: str) -> str:
    """`name` as valid Unicode: file names may hold bytes that are none."""
    return name.encode("utf-8", "backslashreplace").decode()


def _write(target: Path, parts: Iterator[Sequence[tuple[Any, ...]]]) -> None:
    partial = target.with_name(f".{uuid4().hex}.partial")
    try:
        try:
            (_write_parquet if target.name == PARQUET else _write_csv)(partial, parts)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or error})") from error


def _write_csv(path: Path, parts: Iterator[Sequence[tuple[Any, ...]]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for rows in parts:
            writer.writerows(rows)


def _write_parquet(path: Path, parts: Iterator[Sequence[tuple[Any, ...]]]) -> None:
    arrow, parquet = (require(name, "parquet", "Parquet files") for name in ("pyarrow", "pyarrow.parquet"))
    kinds = [arrow.string(), arrow.string(), *[arrow.float32()] * len(NUMBERS)]
    schema = arrow.schema(list(zip(COLUMNS, kinds, strict=True)))
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in parts:
            columns = [arrow.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))
