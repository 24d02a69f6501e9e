"""`metrics.jsonl`: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from faceprint.errors import UserError
from faceprint.files import write_whole
from faceprint.training.logging.appended import AppendedFile


class MetricsFile:
    """Appends records to `metrics.jsonl` of a run folder, as `AppendedFile` does."""

    def __init__(self, run_folder: Path) -> None:
        self._file = AppendedFile(run_folder / "metrics.jsonl")

    def recall(self, record: Mapping[str, Any]) -> None:
        """It is in the file."""

    def write(self, record: Mapping[str, Any]) -> None:
        self._file.add(json.dumps(record) + "\n")

    def close(self) -> None:
        self._file.close()


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
    """Drop the records after `step`: a resumed run writes them again. Raises `UserError` for a disk that is full."""
    kept = [record for record in read_metrics(run_folder) if record["step"] <= step]
    write_whole(run_folder / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in kept).encode())
