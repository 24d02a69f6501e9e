"""What is measured while training: means between two log lines, and where the time goes."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from faceprint.classifier import BatchStatistics
from faceprint.training.cosines import CosineCounts


@dataclass
class Means:
    """Sums of loss and batch statistics since the last log line, kept on the device: adding does not wait for it."""

    sums: Tensor
    cosines: CosineCounts
    count: int = 0
    classes: float = 0.0
    positives: float = 0.0

    NAMES: ClassVar[tuple[str, ...]] = (
        "loss",
        "target_cosine",
        "lowest_target_cosine",
        "train_accuracy",
        "embedding_norm",
    )

    @classmethod
    def on(cls, device: torch.device) -> Means:
        # MPS has no float64; a log interval is short enough for float32.
        return cls(torch.zeros(len(cls.NAMES), device=device), CosineCounts(device))

    def add_all(self, losses: Sequence[Tensor], statistics: Sequence[BatchStatistics]) -> None:
        """`add`, for every pass of a step."""
        for loss, seen in zip(losses, statistics, strict=True):
            self.add(loss, seen)

    def add(self, loss: Tensor, statistics: BatchStatistics) -> None:
        seen = (
            statistics.target_cosine,
            statistics.lowest_cosine,
            statistics.accuracy,
            statistics.embedding_norm,
        )
        self.sums += torch.stack([loss.detach(), *seen])
        self.cosines.add(statistics.cosines)
        self.classes += statistics.active_classes
        self.positives += statistics.positives
        self.count += 1

    def take(self) -> dict[str, Any]:
        """The means since the last call, by name, and the counts of cosines."""
        means: dict[str, Any] = dict(zip(self.NAMES, (self.sums / max(1, self.count)).tolist(), strict=True))
        if self.classes:
            means["active_classes"] = self.classes / max(1, self.count)
            means["positive_classes"] = self.positives / max(1, self.count)
            means["negative_classes"] = means["active_classes"] - means["positive_classes"]
        means.update(self.cosines.take())
        self.sums.zero_()
        self.count, self.classes, self.positives = 0, 0.0, 0.0
        return means

    def state_dict(self) -> dict[str, Any]:
        return {
            "sums": self.sums,
            "cosines": self.cosines.state_dict(),
            "count": self.count,
            "classes": self.classes,
            "positives": self.positives,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums.copy_(state["sums"])
        self.cosines.load_state_dict(state["cosines"])
        self.count = int(state["count"])
        self.classes, self.positives = float(state["classes"]), float(state["positives"])


class HeadTimer:
    """Seconds spent in the classifier: forward, backward and update.

    On CUDA they are the device's, taken by events that nothing waits for before `take`. Elsewhere than on CUDA and CPU
    nothing is measured: there the clock would see when work was handed over, not when it was done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device.type
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def running(self) -> Generator[None]:
        """Count what happens inside."""
        if self._device == "cuda":
            events = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            events[0].record()
            yield
            events[1].record()
            self._events.append(events)
            return
        since = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - since

    def take(self) -> float | None:
        """Seconds since the last call; None where they are not measured."""
        if self._device not in ("cpu", "cuda"):
            return None
        if self._events:
            self._events[-1][1].synchronize()
        seconds = self._seconds + sum(start.elapsed_time(end) for start, end in self._events) / 1e3
        self._seconds = 0.0
        self._events.clear()
        return seconds


@dataclass
class Stopwatch:
    """Training speed, and the shares of time spent waiting for data and in the classifier. Evaluations and checkpoints
    do not count."""

    start: float = field(default_factory=time.perf_counter)
    waited: float = 0.0
    paused: float = 0.0
    images: int = 0
    steps: int = 0

    def add_pause(self, since: float) -> None:
        self.paused += time.perf_counter() - since

    def take(self, head_seconds: float | None = None) -> dict[str, float]:
        """Figures since the last call; `head_seconds` are those spent in the classifier, None where nobody knows."""
        now = time.perf_counter()
        busy = max(1e-9, now - self.start - self.paused)
        figures = {
            "samples_per_second": round(self.images / busy, 2),
            "data_wait_fraction": round(min(1.0, self.waited / busy), 4),
        }
        if head_seconds is not None:
            figures["head_milliseconds"] = round(1e3 * head_seconds / max(1, self.steps), 3)
            figures["head_fraction"] = round(min(1.0, head_seconds / busy), 4)
        self.start, self.waited, self.paused, self.images, self.steps = now, 0.0, 0.0, 0, 0
        return figures
