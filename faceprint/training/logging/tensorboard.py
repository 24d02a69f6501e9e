"""TensorBoard event files in `tensorboard/` of a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from faceprint.training.logging.run_info import RunInfo, numbers, require


class TensorBoard:
    """Writes every number of a record. A resumed run hides what was written after the step that it goes back to."""

    def __init__(self, run: RunInfo) -> None:
        writer = require("torch.utils.tensorboard.writer", "tensorboard").SummaryWriter
        purge = run.first_step + 1 if run.first_step else None
        self._writer = writer(str(run.folder / "tensorboard"), purge_step=purge)
        if not run.first_step:
            keys = yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True)
            self._writer.add_text("configuration", f"```yaml\n{keys}```")

    def recall(self, record: Mapping[str, Any]) -> None:
        """It is in the files of the part before."""

    def write(self, record: Mapping[str, Any]) -> None:
        for name, value in numbers(record):
            self._writer.add_scalar(name, value, record["step"])
        self._writer.flush()  # a run that is killed has lost nothing

    def close(self) -> None:
        self._writer.close()
