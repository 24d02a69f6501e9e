"""How fast training steps are: the fast path against the plain one, in turn in one process."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from faceprint.config import Config
from faceprint.errors import UserError
from faceprint.memory import keep_freed_memory
from faceprint.recipe import validate
from faceprint.training.guard import gradient_norm
from faceprint.training.loop import add_gradients, update_weights
from faceprint.training.setup import build_trainer
from faceprint.training.trainer import Trainer

PLAIN = {"precision": "fp32", "compile": False, "channels_last": False}
"""Eager, float32, contiguous, with the C library's usual memory: what a straightforward PyTorch program does."""

IDENTITIES = 512
TURNS = 2


def benchmark_training(
    network: str,
    *,
    batch_size: int,
    steps: int,
    fast: dict[str, Any],
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Time training steps of `network` by the plain path and by the `fast` one: `steps` of each in turn, twice.

    `fast` holds the keys precision, compile and channels_last. Both train the same weights on the same fixed batch of
    random pixels against 512 classes (CosFace), so that their losses can be compared step by step. Two warm-up steps
    each are not counted; `first_steps_seconds` says what they cost, compilation included. Times are medians.
    """
    if steps < 1 or batch_size < 2:
        raise UserError(f"bench needs steps >= 1 and a batch of at least 2, got steps={steps}, batch_size={batch_size}")
    paths = {"plain": PLAIN, "fast": fast}
    timers = {
        name: _Path(_config(network, batch_size, device, keys), keep_memory=name == "fast")
        for name, keys in paths.items()
    }
    for turn in range(TURNS):
        for number, timer in enumerate(timers.values()):
            timer.step(counted=False)  # takes up its memory again
            for _ in range(steps):
                timer.step()
            if progress:
                progress(turn * len(timers) + number + 1, TURNS * len(timers))
    results = {name: timer.result(batch_size) for name, timer in timers.items()}
    losses = [timer.losses for timer in timers.values()]
    return {
        "benchmark": "train",
        "network": network,
        "batch_size": batch_size,
        "steps": steps,
        "threads": torch.get_num_threads(),
        "device": str(timers["fast"].trainer.device),
        **{name: {**paths[name], **result} for name, result in results.items()},
        "speedup": round(results["plain"]["seconds_per_step"] / results["fast"]["seconds_per_step"], 3),
        "largest_relative_loss_difference": max(abs(a - b) / abs(a) for a, b in zip(*losses, strict=True)),
    }


SAME = ("benchmark", "network", "batch_size", "threads", "device")
"""What two results must share to be compared."""


@dataclass(frozen=True)
class Comparison:
    """Speed of the fast path now and in a stored result, in images per second. `ratio` above 1 is faster now."""

    before: float
    now: float
    ratio: float
    tolerance: float
    slower: bool
    """Whether the ratio is below 1 - tolerance."""


def compare(result: dict[str, Any], stored: dict[str, Any], tolerance: float) -> Comparison:
    """`result` of `benchmark_training` beside the one that `read_baseline` gave.

    Raises `UserError` for one of another network, batch, device, number of threads or precision.
    """
    keys = {key: (stored.get(key), result[key]) for key in SAME}
    keys.update({key: (stored["fast"].get(key), result["fast"][key]) for key in PLAIN})
    different = [f"{key} {was!r} there, {now!r} here" for key, (was, now) in keys.items() if was != now]
    if different:
        raise UserError(f"the baseline is another benchmark ({'; '.join(different)}); compare like with like")
    before, now = stored["fast"]["samples_per_second"], result["fast"]["samples_per_second"]
    ratio = round(now / before, 4)
    return Comparison(before, now, ratio, tolerance, slower=ratio < 1 - tolerance)


def read_baseline(path: Path) -> dict[str, Any]:
    """The result of `benchmark_training` that `path` holds. Raises `UserError` for a file without one."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if float(stored["fast"]["samples_per_second"]) > 0:
            return stored
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not a result of `faceprint bench train --save` ({error})") from error
    raise UserError(f"{path}: a speed of {stored['fast']['samples_per_second']} images per second is none")


def _config(network: str, batch_size: int, device: str, keys: dict[str, Any]) -> Config:
    return validate(
        {
            "network": {"name": network},
            "data": {"source": "synthetic", "identities": IDENTITIES, "images_per_identity": 1},
            # So small that the fixed batch is not learned by heart, where any two paths would part.
            "optimizer": {"lr": 1e-5},
            "batch_size": batch_size,
            "steps": 1,
            "device": device,
            **keys,
        }
    )


class _Path:
    """One way to run training steps, timed."""

    def __init__(self, config: Config, *, keep_memory: bool) -> None:
        self.trainer: Trainer = build_trainer(config)
        self.keep_memory = keep_memory and self.trainer.device.type == "cpu"
        self.losses: list[float] = []
        self.seconds: list[float] = []
        generator = torch.Generator().manual_seed(0)
        size = self.trainer.spec.size
        images = torch.rand(config.batch_size, 3, *size, generator=generator) * 2 - 1
        self.images = images.to(self.trainer.device).contiguous(memory_format=self.trainer.memory_format)
        self.labels = torch.randint(IDENTITIES, (config.batch_size,), generator=generator).to(self.trainer.device)
        torch.manual_seed(0)
        self.trainer.network.train()
        started = time.perf_counter()
        for _ in range(2):
            self.step(counted=False)
        self.first_steps_seconds = time.perf_counter() - started

    def step(self, *, counted: bool = True) -> None:
        keep_freed_memory(self.keep_memory)
        started = time.perf_counter()
        loss, _ = add_gradients(self.trainer, self.images, self.labels)
        update_weights(self.trainer, gradient_norm(self.trainer))
        self.losses.append(loss.item())  # waits for the device
        if counted:
            self.seconds.append(time.perf_counter() - started)

    def result(self, batch_size: int) -> dict[str, Any]:
        median = statistics.median(self.seconds)
        return {
            "seconds_per_step": round(median, 4),
            "samples_per_second": round(batch_size / median, 2),
            "first_steps_seconds": round(self.first_steps_seconds, 2),
            "losses": [round(loss, 5) for loss in self.losses],
        }
