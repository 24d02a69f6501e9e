"""TensorBoard event files in `tensorboard/` of a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faceprint.errors import UserError


class TensorBoard:
    """Writes every number of a record as `KIND/NAME`; evaluations as `evaluation/PROTOCOL/NAME`."""

    def __init__(self, run_folder: Path) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise UserError("the tensorboard logger needs `pip install 'faceprint[logging]'`") from error
        self._writer = SummaryWriter(str(run_folder / "tensorboard"))

    def write(self, record: Mapping[str, Any]) -> None:
        prefix = "/".join(str(record[key]) for key in ("kind", "protocol") if key in record)
        for name, value in record.items():
            if name not in ("step", "kind") and isinstance(value, int | float):
                self._writer.add_scalar(f"{prefix}/{name}", value, record["step"])

    def close(self) -> None:
        self._writer.close()
