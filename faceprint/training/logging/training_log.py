"""`training.log`: the figures as lines of text, in the form that arcface_torch prints them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from faceprint.files import write_whole
from faceprint.training.logging.appended import AppendedFile
from faceprint.training.logging.run_info import RunInfo

STEP = re.compile(r"Global Step: (\d+)|\]\[(\d+)\]|-step (\d+):")


class TrainingLog:
    """Appends lines that scripts for the logs of insightface's arcface_torch (utils_callbacks.py) can parse:

    `Speed 2100.00 samples/sec   Loss 35.1000   LearningRate 0.100000   Epoch: 0   Global Step: 100   Fp16 Grad Scale:
    65536   Required: 12 hours` a train record (the scale with fp16 only), `[PROTOCOL][STEP]Accuracy-Flip:
    0.99550+-0.00320` and `Accuracy-Highest` an evaluation, each after `Training: DATE TIME-`. The hours are those still
    needed at the pace since the training was started or resumed. A resumed run drops the lines after its first step.
    """

    def __init__(self, run: RunInfo) -> None:
        path = run.folder / "training.log"
        if path.exists():
            _forget_after(path, run.first_step)
        self._run = run
        self._since = time.monotonic()
        self._highest: dict[str, float] = {}
        self._file = AppendedFile(path)

    def recall(self, record: Mapping[str, Any]) -> None:
        """It is in the file; the highest accuracies are those of all parts."""
        self._lines(record)

    def write(self, record: Mapping[str, Any]) -> None:
        lines = self._lines(record)
        stamp = datetime.now().strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
        self._file.add("".join(f"Training: {stamp}-{line}\n" for line in lines))

    def _lines(self, record: Mapping[str, Any]) -> list[str]:
        kinds = {"train": self._train, "evaluation": self._evaluation, "warning": self._warning}
        return kinds[record["kind"]](record) if record["kind"] in kinds else []

    def _train(self, record: Mapping[str, Any]) -> list[str]:
        scale = f"Fp16 Grad Scale: {record['loss_scale']:2.0f}   " if "loss_scale" in record else ""
        return [
            f"Speed {record['samples_per_second']:.2f} samples/sec   Loss {record['loss']:.4f}   LearningRate"
            f" {record['learning_rate']:.6f}   Epoch: {int(record['epoch'])}   Global Step: {record['step']}  "
            f" {scale}Required: {self._hours_left(record['step']):1.0f} hours"
        ]

    def _evaluation(self, record: Mapping[str, Any]) -> list[str]:
        name, accuracy = record["protocol"], record["accuracy"]
        self._highest[name] = max(accuracy, self._highest.get(name, 0.0))
        place = f"[{name}][{record['step']}]"
        return [
            f"{place}Accuracy-Flip: {accuracy:1.5f}+-{record['accuracy_std'] or 0.0:1.5f}",
            f"{place}Accuracy-Highest: {self._highest[name]:1.5f}",
        ]

    def _warning(self, record: Mapping[str, Any]) -> list[str]:
        return [f"step {record['step']}: {' '.join(record['message'].split())}"]

    def _hours_left(self, step: int) -> float:
        done = max(1, step - self._run.first_step)
        return (time.monotonic() - self._since) / done * (self._run.total_steps - step) / 3600

    def close(self) -> None:
        self._file.close()


def _forget_after(path: Path, step: int) -> None:
    """Drop the lines of later steps than `step`."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    write_whole(path, "".join(line for line in lines if _step_of(line) <= step).encode())


def _step_of(line: str) -> int:
    """The step that a line speaks of; 0 where it names none."""
    found = STEP.search(line)
    return int(next(filter(None, found.groups()))) if found else 0
