"""Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from faceprint.training.logging.run_info import RunInfo, numbers, prefix, require


class WeightsAndBiases:
    """Sends every number of a record to the project `log.project`, over the run's own step.

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
        self._last: dict[str, int] = {}
        """Kind of record -> the last step that the service has from earlier parts of the run."""

    def recall(self, record: Mapping[str, Any]) -> None:
        self.write(record)

    def write(self, record: Mapping[str, Any]) -> None:
        kind = prefix(record)
        if kind not in self._last:
            self._run.define_metric(f"{kind}/*", step_metric=f"{kind}/step")
            self._last[kind] = self._run.summary.get(f"{kind}/step", -1)
        if record["step"] > self._last[kind]:
            self._run.log({f"{kind}/step": record["step"], **dict(numbers(record))})

    def close(self) -> None:
        self._run.finish()
