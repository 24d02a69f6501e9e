"""Where the figures of a run go. A logger has `write(record)` and `close()`; a record is one flat mapping.

Every record has `kind` ("train" or "evaluation"), `step` and `epoch`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from faceprint.registry import Table
from faceprint.training.logging.jsonl import MetricsFile
from faceprint.training.logging.tensorboard import TensorBoard

__all__ = ["LOGGERS", "Logger", "MetricsFile", "TensorBoard"]


class Logger(Protocol):
    def write(self, record: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


LOGGERS: Table[Callable[[Path], Logger]] = Table("logger", [("tensorboard", TensorBoard)])
"""Besides `metrics.jsonl`, which every run writes. A factory takes the run folder."""
