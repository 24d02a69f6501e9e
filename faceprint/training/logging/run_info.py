"""What a logger is told of the run, what it must do, and the names that figures go by in services."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from faceprint.config import Log
from faceprint.errors import UserError
from faceprint.files import write_whole


@dataclass(frozen=True)
class RunInfo:
    """The run whose figures are logged."""

    folder: Path
    config: Mapping[str, Any]
    """All keys, as plain values."""
    log: Log
    total_steps: int
    first_step: int = 0
    """Steps done before: 0, or where a resumed run goes on."""

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def identifier(self, service: str, new: str) -> str:
        """The run's name in `service`: kept in the run folder from the first part of a run on, where it is `new`."""
        path = self.folder / f"{service}.id"
        if not path.exists():
            write_whole(path, f"{new}\n".encode())
        kept = path.read_text(encoding="utf-8").strip()
        if not kept.isalnum():
            raise UserError(f"{path}: not the identifier of a run; remove it to start a new one in {service}")
        return kept


class Logger(Protocol):
    """Takes the records of a run one by one. Each point must end up in its place once, whatever happened between."""

    def recall(self, record: Mapping[str, Any]) -> None:
        """A record that an earlier part of a resumed run wrote: all of them come first, so that a service that lost
        some can catch up."""
        ...

    def write(self, record: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


def prefix(record: Mapping[str, Any]) -> str:
    """`train`, or `evaluation/PROTOCOL`: what the names of a record's numbers begin with."""
    return "/".join(str(record[key]) for key in ("kind", "protocol") if key in record)


def numbers(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """(name, value) of every number of a record but its step, such as `train/loss`."""
    for name, value in record.items():
        if name != "step" and isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix(record)}/{name}", value


def require(module: str, extra: str) -> Any:
    """The module of an optional package. Raises `UserError` that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"the {extra} logger needs `pip install 'faceprint[{extra}]'` ({error})") from error
