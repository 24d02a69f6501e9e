"""Where the figures of a run go. A logger has `write(record)` and `close()`; a record is one flat mapping.

Every record has `kind` ("train", "evaluation" or "warning"), `step` and `epoch`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from faceprint.registry import Table
from faceprint.training.logging.background import Background
from faceprint.training.logging.jsonl import MetricsFile, read_metrics
from faceprint.training.logging.mlflow import MLflow
from faceprint.training.logging.run_info import Logger, RunInfo
from faceprint.training.logging.tensorboard import TensorBoard
from faceprint.training.logging.training_log import TrainingLog
from faceprint.training.logging.visdom import Visdom
from faceprint.training.logging.wandb import WeightsAndBiases

__all__ = ["LOGGERS", "Logger", "RunInfo", "open_loggers"]


LOGGERS: Table[Callable[[RunInfo], Logger]] = Table(
    "logger",
    [
        ("tensorboard", TensorBoard),
        ("wandb", WeightsAndBiases),
        ("mlflow", MLflow),
        ("visdom", Visdom),
    ],
)
"""What `log.loggers` takes, besides `metrics.jsonl` and `training.log`, which every run writes."""


def open_loggers(run: RunInfo) -> list[Logger]:
    """The files of every run, and the loggers that `log.loggers` names, told of what a resumed run wrote before.

    Raises `UserError` where the package of one is missing.
    """
    history: list[Mapping[str, Any]] = list(read_metrics(run.folder))
    loggers: list[Logger] = [MetricsFile(run.folder), TrainingLog(run)]
    loggers += [Background(name, partial(LOGGERS[name], run)) for name in run.log.loggers]
    for logger in loggers:
        for record in history:
            logger.recall(record)
    return loggers
