"""What the class centres will take, before anything of their size is made."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch.nn import functional

from faceprint.classifier.partial_fc import PartialFC
from faceprint.device import synchronize
from faceprint.distributed import together
from faceprint.errors import UserError
from faceprint.margins.plain import Plain
from faceprint.memory import free_memory

SIZES = {"fp32": 4, "bf16": 2}
GIB = 2**30
MEASURED_SCORES = 2**19
"""Scores (batch x classes) of the small head that is timed: tens of milliseconds on one core."""
MEASURED_STEPS = 3
SMALL_SAVING, LONG_STEP = 0.01, 0.1
"""Seconds a step below which sampling is not worth it, and above which it is proposed."""


@dataclass(frozen=True)
class HeadEstimate:
    """What a classifier takes in one process: memory of centres, momentum and gradients, and seconds of a step.
    `advice` is what another sample rate would do, in words; None where it is as well."""

    bytes: int
    seconds: float
    advice: str | None


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
    product: Literal["fp32", "bf16"] = "fp32"
    update: Literal["sampled", "dense"] = "sampled"
    batch_size: int = 128
    """Images of one pass in one process."""
    passes: int = 1
    """Whose gradients make one step."""

    @property
    def _classes(self) -> int:
        """Of one process."""
        return math.ceil(self.num_classes / self.processes)

    @property
    def _values(self) -> int:
        """Numbers in the centres of one process."""
        return self._classes * self.sub_centers * self.embedding_dim

    @property
    def _active(self) -> int:
        """Classes of one process that take part in a pass: those sampled, or the batch's own where they are more."""
        return max(1, round(self._classes * self.sample_rate), min(self._classes, self.batch_size))

    @property
    def lasting_bytes(self) -> int:
        """Centres and what the optimiser remembers of them, in one process."""
        moments = 1 if self.optimizer == "sgd" else 2
        return self._values * (SIZES[self.centres] + moments * SIZES[self.state])

    @property
    def step_bytes(self) -> int:
        """Gradients of the sampled centres, in one process: those of a pass, and the sums over passes before and after
        it where there are several."""
        if self.passes == 1:
            shares = self.sample_rate
        elif self.sample_rate == 1:
            shares = 2.0  # the sum is made in place
        else:
            shares = self._sampled_in(self.passes - 1) + self.sample_rate + self._sampled_in(self.passes)
        return round(self._values * shares) * SIZES["fp32"]

    def _sampled_in(self, passes: int) -> float:
        """The share of classes that at least one of so many passes samples; each has a draw of its own."""
        return 1.0 - (1.0 - self.sample_rate) ** passes

    @property
    def total_bytes(self) -> int:
        return self.lasting_bytes + self.step_bytes

    def estimate(self, margin: Plain, device: torch.device) -> HeadEstimate:
        """Memory, which must be free on `device`, and time. Raises `UserError` as `check` does, for any process's.

        Where there are several processes all must call it.
        """
        together(lambda: self.check(free_bytes(device)))  # one that stopped alone would leave the others waiting below
        seconds = self.seconds(margin, device)
        return HeadEstimate(self.total_bytes, seconds, self.advice(seconds))

    def seconds(self, margin: Plain, device: torch.device) -> float:
        """What a step of the classifier takes in one process: a few steps of a small one, timed there, scaled up.

        Takes some tenths of a second on a CPU and leaves random numbers and `margin` as they are. Where there are
        several processes all must call it.
        """
        classes = min(self._active, max(256, MEASURED_SCORES // (self.batch_size * self.processes)))
        sampled = self.sample_rate < 1
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            head = PartialFC(
                self.embedding_dim,
                max(2, (2 if sampled else 1) * classes * self.processes),
                copy.deepcopy(margin),
                0.5 if sampled else 1.0,
                sub_centers=self.sub_centers,
                centres=self.centres,
                product=self.product,
            ).to(device)
            small = _timed(head, self, device)
        return small * self._active / classes

    def advice(self, seconds: float) -> str | None:
        """What another sample rate would do for a step that takes `seconds`, in words; None where it is as well."""
        if self.sample_rate == 1:
            sampled = replace(self, sample_rate=0.1)
            shorter = seconds * sampled._active / self._active
            if seconds < LONG_STEP or shorter > seconds / 2:
                return None
            return f"classifier.sample_rate=0.1 would take about {1e3 * shorter:,.0f} ms a step"
        if round(self._classes * self.sample_rate) <= min(self._classes, self.batch_size * self.processes):
            return (
                f"classifier.sample_rate={self.sample_rate:g} of {self.num_classes:,} identities is no more than a"
                " batch may hold, so there is hardly anybody else to compare with; take a larger one"
            )
        saved = seconds * (self._classes / self._active - 1)
        if saved > SMALL_SAVING:
            return None
        return f"sampling saves about {1e3 * saved:.0f} ms a step: classifier.sample_rate=1 compares with everybody"

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


def _timed(head: PartialFC, plan: HeadPlan, device: torch.device) -> float:
    """Seconds of one step of `head`, with the batches and the optimiser of `plan`."""
    options: dict[str, Any] = {"name": plan.optimizer, "state": plan.state, "update": plan.update}
    optimizer = head.make_optimizer(1e-3, **options)
    embeddings = functional.normalize(torch.randn(plan.batch_size, plan.embedding_dim)).to(device).requires_grad_()
    labels = torch.randint(head.num_classes, (plan.batch_size,)).to(device)
    passes, updates = list[float](), list[float]()
    for _ in range(1 + MEASURED_STEPS):
        times = [_now(device)]
        head(embeddings, labels).backward()
        times.append(_now(device))
        optimizer.step()
        optimizer.zero_grad()
        times.append(_now(device))
        passes.append(times[1] - times[0])
        updates.append(times[2] - times[1])
    # The quickest: what else the machine does makes a step longer, never shorter.
    return plan.passes * min(passes[1:]) + min(updates[1:])


def _now(device: torch.device) -> float:
    synchronize(device)
    return time.perf_counter()


def free_bytes(device: torch.device) -> int | None:
    """Memory that a process may still take on `device`; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return free_memory()
