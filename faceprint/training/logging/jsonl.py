"""`metrics.jsonl`: one JSON object a line."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from faceprint.errors import UserError

LOG = logging.getLogger("faceprint")


class MetricsFile:
    """Appends records to `metrics.jsonl` of a run folder, each line complete as soon as it is written.

    A disk that is full loses nothing: what could not be written is kept, said once, and written when there is room.
    """

    def __init__(self, run_folder: Path) -> None:
        self._path = run_folder / "metrics.jsonl"
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._waiting = b""
        self._said = False

    def write(self, record: Mapping[str, Any]) -> None:
        self._waiting += json.dumps(record).encode() + b"\n"
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._file, self._waiting) :]
        except OSError as error:
            if not self._said:
                LOG.warning("%s: cannot be written (%s); its lines are kept in memory", self._path, error.strerror)
            self._said = True

    def close(self) -> None:
        os.close(self._file)


def read_metrics(run_folder: Path) -> Iterator[dict[str, Any]]:
    """The records of a run, oldest first. A last line that was cut off by a kill is left out."""
    path = run_folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except ValueError as error:
            if number < len(lines):
                raise UserError(f"{path}:{number}: not a JSON object") from error


def forget_after(run_folder: Path, step: int) -> None:
    """Drop the records after `step`: a resumed run writes them again."""
    kept = [record for record in read_metrics(run_folder) if record["step"] <= step]
    temporary = run_folder / "metrics.jsonl.part"
    temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
    temporary.replace(run_folder / "metrics.jsonl")
