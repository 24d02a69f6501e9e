"""Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from faceprint.training.logging.run_info import RunInfo, numbers, require


class WeightsAndBiases:
    """Sends every number of a record, at its step, to the project `log.project`.

    The package's own environment counts: `WANDB_MODE=offline` writes `wandb/offline-run-…` in the run folder, for
    `wandb sync`. Each part of a resumed run has the same run id; an offline one holds the whole run, so that the
    newest folder is the one to sync.
    """

    def __init__(self, run: RunInfo) -> None:
        wandb = require("wandb", "wandb")
        self._run = wandb.init(
            project=run.log.project,
            name=run.name,
            id=run.identifier("wandb", uuid4().hex[:8]),
            resume="allow",
            dir=str(run.folder),
            config=dict(run.config),
            # What the command prints, and the state of the git repository, stay here.
            settings=wandb.Settings(silent=True, console="off", disable_git=True),
        )
        self._next = self._run.starting_step  # of a resumed run: the first one that the service has not

    def write(self, record: Mapping[str, Any]) -> None:
        if record["step"] >= self._next:
            self._run.log(dict(numbers(record)), step=record["step"])

    def close(self) -> None:
        self._run.finish()
