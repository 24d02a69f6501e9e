"""Where the time of a step goes: a trace by PyTorch's profiler, and its parts added up."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from faceprint.distributed import rank
from faceprint.errors import UserError
from faceprint.files import write_whole

LOG = logging.getLogger("faceprint")

PartName = Literal["data", "forward", "head", "backward", "optimizer"]
PARTS: tuple[PartName, ...] = ("data", "forward", "head", "backward", "optimizer")
BETWEEN_PROCESSES = ("gloo:", "nccl")
"""How the events of gloo, and the kernels of nccl, begin."""
WAIT, WARM_UP, ACTIVE = 5, 1, 5
"""Steps before, steps in which the profiler starts, steps that are counted."""


def part(name: PartName) -> record_function:
    """A context, or a decorator, that marks what belongs to a part of the step. It costs microseconds."""
    return record_function(f"faceprint.{name}")


@dataclass(frozen=True)
class Row:
    """Mean milliseconds a step. `share` is that of the whole step, `device_milliseconds` what a GPU computed."""

    part: str
    milliseconds: float
    share: float
    device_milliseconds: float | None = None


class Profile:
    """Traces some steps of a training after its first ones, if `enabled`; `rows` are there when they are done.

    Each process writes its trace, for chrome://tracing or Perfetto, as `profile/rank-NNNNN.json.gz` of the run folder,
    and the first one `profile/parts.json`.
    """

    def __init__(self, folder: Path | None, device: torch.device, *, steps_left: int, enabled: bool) -> None:
        self.rows: list[Row] = []
        self._folder = folder
        self._device = device
        self._profiler = None
        if enabled:
            wait = max(0, min(WAIT, steps_left - WARM_UP - ACTIVE))
            plan = schedule(wait=wait, warmup=WARM_UP, active=ACTIVE, repeat=1)
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
            self._profiler = profile(activities=activities, schedule=plan, on_trace_ready=self._take)
            self._profiler.start()

    def step(self) -> None:
        """One step was done."""
        if self._profiler is not None:
            self._profiler.step()
            if self.rows:
                self.close()

    def close(self) -> None:
        """Stop; a training that ends before all steps were traced gives those there are."""
        if self._profiler is not None:
            profiler, self._profiler = self._profiler, None
            profiler.stop()
            if not self.rows:
                LOG.warning("profile=true: the training was too short, %d steps are the least", WARM_UP + 1)

    def _take(self, profiler: Any) -> None:
        self.rows = add_up(profiler.events(), self._device.type)
        try:
            if self._folder is not None:
                self._write(profiler, self._folder / "profile")
        except (OSError, RuntimeError, UserError) as error:  # a full disk does not end the training
            LOG.warning("the profile was not written: %s", error)

    def _write(self, profiler: Any, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        partial = folder / f".rank-{rank():05d}.partial.json.gz"
        profiler.export_chrome_trace(str(partial))
        partial.replace(folder / f"rank-{rank():05d}.json.gz")
        if rank() == 0:
            rows = [asdict(row) for row in self.rows]
            write_whole(folder / "parts.json", (json.dumps({"parts": rows}, indent=1) + "\n").encode())


def add_up(events: Iterable[Any], device: str) -> list[Row]:
    """The parts of a step, from the profiler's events; the last rows are communication, the rest and the whole step.

    A part's time is that of its marks; a GPU's, that of the kernels which were launched meanwhile, in any thread.
    Communication goes on beside other parts, so that the rows but for it add up to the whole.
    """
    events = list(events)
    on_host = [event for event in events if event.device_type.name == "CPU"]
    steps = [event for event in on_host if event.name.startswith("ProfilerStep")]
    if not steps:
        return []
    marks = {name: [event.time_range for event in on_host if event.name == f"faceprint.{name}"] for name in PARTS}
    kernels = [(event.time_range.start, each) for event in on_host for each in event.kernels]
    whole = sum(event.time_range.elapsed_us() for event in steps)
    busy = {name: sum(mark.elapsed_us() for mark in ranges) for name, ranges in marks.items()}
    launched = {name: sum(_durations(kernels, ranges)) for name, ranges in marks.items()}
    sent = sum(each.duration for _, each in kernels if each.name.startswith(BETWEEN_PROCESSES))
    talked = sum(event.time_range.elapsed_us() for event in on_host if event.name.startswith(BETWEEN_PROCESSES))
    whole_on_device = sum(each.duration for _, each in kernels)

    def row(name: str, host: float, on_device: float) -> Row:
        scale = 1e3 * len(steps)
        seen = round(on_device / scale, 3) if device == "cuda" else None
        return Row(name, round(host / scale, 3), round(host / whole, 4), seen)

    return [
        *(row(name, busy[name], launched[name]) for name in PARTS),
        row("rest", whole - sum(busy.values()), whole_on_device - sum(launched.values())),
        row("communication", talked, sent),
        row("step", whole, whole_on_device),
    ]


def _durations(kernels: list[tuple[float, Any]], ranges: list[Any]) -> Iterator[float]:
    """Microseconds of the kernels that were launched within `ranges`."""
    for start, kernel in kernels:
        if any(mark.start <= start <= mark.end for mark in ranges):
            yield kernel.duration
