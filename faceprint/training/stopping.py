"""What all processes must agree on after each step: whether to stop, and whether a checkpoint is written."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from faceprint.distributed import world_size

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""By which launchers and schedulers announce that the machine will be taken away."""
STOPPED_EXIT = 75
"""Exit status of a training that was asked to stop and saved a checkpoint (EX_TEMPFAIL of sysexits.h: try again)."""


class StopRequest:
    """Notes the signals of `SIGNALS` while it is open, so that the training can end after a whole step."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # Python's rule for handlers
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


class Agreement:
    """Yes-or-no questions that all processes answer in each step; the answers travel while the step is computed."""

    def __init__(self) -> None:
        self._votes = torch.zeros(2)
        self._work: Any = None

    def ask(self, *, stop: bool, written: bool) -> None:
        """This process's answers: was it asked to stop, and has it written its files of the pending checkpoint."""
        self._votes = torch.tensor([float(stop), float(written)])
        if world_size() > 1:
            self._work = dist.all_reduce(self._votes, async_op=True)

    def answer(self) -> tuple[bool, bool]:
        """(any process was asked to stop, all have written), as of the last `ask`; the same in every process."""
        if self._work is not None:
            self._work.wait()
        stop, written = self._votes.tolist()
        return stop > 0, written == world_size()
