"""What is measured while training: means between two log lines, and where the time goes."""

from __future__ import annotations

import time
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

    NAMES: ClassVar[tuple[str, ...]] = ("loss", "target_cosine", "train_accuracy", "embedding_norm")

    @classmethod
    def on(cls, device: torch.device) -> Means:
        # MPS has no float64; a log interval is short enough for float32.
        return cls(torch.zeros(len(cls.NAMES), device=device), CosineCounts(device))

    def add(self, loss: Tensor, statistics: BatchStatistics) -> None:
        seen = (statistics.target_cosine, statistics.accuracy, statistics.embedding_norm)
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


@dataclass
class Stopwatch:
    """Training speed and the share of time spent waiting for data. Evaluations and checkpoints do not count."""

    start: float = field(default_factory=time.perf_counter)
    waited: float = 0.0
    paused: float = 0.0
    images: int = 0

    def add_pause(self, since: float) -> None:
        self.paused += time.perf_counter() - since

    def take(self) -> dict[str, float]:
        """Figures since the last call."""
        now = time.perf_counter()
        busy = max(1e-9, now - self.start - self.paused)
        figures = {
            "samples_per_second": round(self.images / busy, 2),
            "data_wait_fraction": round(min(1.0, self.waited / busy), 4),
        }
        self.start, self.waited, self.paused, self.images = now, 0.0, 0.0, 0
        return figures
