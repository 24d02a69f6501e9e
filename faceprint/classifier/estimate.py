"""What the class centres will take, before anything of their size is made."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch

from faceprint.errors import UserError
from faceprint.memory import free_memory

SIZES = {"fp32": 4, "bf16": 2}
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class HeadPlan:
    """A classifier and its optimiser, as numbers; see `PartialFC` and `CentreOptimizer`."""

    num_classes: int
    embedding_dim: int
    sample_rate: float = 1.0
    sub_centers: int = 1
    processes: int = 1
    centres: Literal["fp32", "bf16"] = "fp32"
    state: Literal["fp32", "bf16"] = "fp32"
    optimizer: Literal["sgd", "adamw"] = "sgd"

    @property
    def _values(self) -> int:
        """Numbers in the centres of one process."""
        return math.ceil(self.num_classes / self.processes) * self.sub_centers * self.embedding_dim

    @property
    def lasting_bytes(self) -> int:
        """Centres and what the optimiser remembers of them, in one process."""
        moments = 1 if self.optimizer == "sgd" else 2
        return self._values * (SIZES[self.centres] + moments * SIZES[self.state])

    @property
    def step_bytes(self) -> int:
        """Gradients of the sampled centres, which last a step, in one process."""
        return round(self._values * self.sample_rate) * SIZES["fp32"]

    @property
    def total_bytes(self) -> int:
        return self.lasting_bytes + self.step_bytes

    def check(self, free: int | None) -> None:
        """Raise `UserError`, saying what would help, where the centres need more than `free` bytes; None: not known."""
        if free is None or self.total_bytes <= free:
            return
        raise UserError(
            f"{self.num_classes:,} identities need {self.total_bytes / GIB:.1f} GiB a process for class centres"
            f" ({self.lasting_bytes / GIB:.1f}), and gradients of those sampled ({self.step_bytes / GIB:.1f});"
            f" {free / GIB:.1f} GiB are free. {self._advice(free)}"
        )

    def _advice(self, free: int) -> str:
        options: list[str] = []
        if self.sample_rate > 0.1:
            sampled = replace(self, sample_rate=0.1)
            if sampled.total_bytes <= free:
                options.append("classifier.sample_rate=0.1")
        if replace(self, centres="bf16", state="bf16", sample_rate=min(self.sample_rate, 0.1)).total_bytes <= free:
            options.append("classifier.centres=bf16 classifier.state=bf16 with a sample_rate of at most 0.1")
        needed = math.ceil(self.total_bytes * self.processes / free)
        options.append(f"{needed} processes, each with as much memory")
        sampling = "" if self.lasting_bytes <= free else " Sampling alone cannot help: all centres are kept."
        return f"Try {', or '.join(options)}.{sampling}"


def free_bytes(device: torch.device) -> int | None:
    """Memory that a process may still take on `device`; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return free_memory()
