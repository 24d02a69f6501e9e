"""MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from faceprint.assignments import flatten
from faceprint.training.logging.run_info import RunInfo, numbers, require


class MLflow:
    """Writes every number of a record as a metric of one run of the experiment `log.project`, and the keys as its
    parameters.

    The store is that of MLFLOW_TRACKING_URI, else `mlflow.db` (SQLite) in the run folder.
    """

    def __init__(self, run: RunInfo) -> None:
        self._mlflow = require("mlflow", "mlflow")
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(run.folder / 'mlflow.db').resolve()}"
        self._client = self._mlflow.MlflowClient(tracking_uri=uri)
        self._id = run.identifier("mlflow", "") if (run.folder / "mlflow.id").exists() else self._start(run)
        self._client.update_run(self._id, status="RUNNING")
        # What the store has from earlier parts of the run, which may have come further than this one starts.
        self._last = {name: self._last_step(name) for name in self._client.get_run(self._id).data.metrics}

    def _start(self, run: RunInfo) -> str:
        experiment = self._client.get_experiment_by_name(run.log.project)
        number = experiment.experiment_id if experiment else self._client.create_experiment(run.log.project)
        started = self._client.create_run(number, run_name=run.name).info.run_id
        for key, value in flatten(run.config):
            self._client.log_param(started, key, str(value)[:500])  # the longest that every version takes
        return run.identifier("mlflow", started)

    def _last_step(self, name: str) -> int:
        return max(metric.step for metric in self._client.get_metric_history(self._id, name))

    def recall(self, record: Mapping[str, Any]) -> None:
        self.write(record)

    def write(self, record: Mapping[str, Any]) -> None:
        now, step = int(time.time() * 1000), record["step"]
        fresh = [(name, value) for name, value in numbers(record) if step > self._last.get(name, -1)]
        metrics = [self._mlflow.entities.Metric(name, float(value), now, step) for name, value in fresh]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self) -> None:
        self._client.set_terminated(self._id)
