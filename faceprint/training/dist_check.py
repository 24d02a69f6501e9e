"""Whether processes that are to train together can: the same program and data in all, and how fast they exchange."""

from __future__ import annotations

import hashlib
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed as dist

from faceprint import __version__
from faceprint.config import Config
from faceprint.device import resolve_device
from faceprint.distributed import gather_objects, master, together, world_size
from faceprint.models import create_model
from faceprint.recipe import dump
from faceprint.training.plan import choose_accumulate
from faceprint.training.setup import resolve_precision
from faceprint.training.sources import build_source, fingerprint

SIZES = (1 << 20, 1 << 23, 1 << 26)
"""Bytes whose exchange is timed."""
TURNS = 5
MEASURED_BATCH = 8
"""Images whose forward and backward pass is timed; a step's time is taken to be proportional."""


@dataclass(frozen=True)
class Facts:
    """What must be the same in every process."""

    version: str
    torch: str
    master: str
    config: str | None
    """SHA-256 of the whole configuration; None without a recipe."""
    data: str | None
    """SHA-256 of identities and labels; None without a recipe."""


def gather_facts(config: Config | None) -> list[tuple[str, Facts]]:
    """(name of the machine, facts) of every process in rank order. Raises `UserError` where data cannot be opened."""
    return gather_objects((platform.node(), together(lambda: _facts(config))))


def _facts(config: Config | None) -> Facts:
    of_config = of_data = None
    if config is not None:
        of_config = hashlib.sha256(dump(config).encode()).hexdigest()
        of_data = fingerprint(build_source(config.data, config.network.image_size))
    return Facts(__version__, torch.__version__, master(), of_config, of_data)


def differences(gathered: list[tuple[str, Facts]]) -> list[str]:
    """A line for each process and fact that is not that of the first process; empty where all agree."""
    machine, expected = gathered[0]
    return [
        f"{name}: rank {rank} on {node} has {value}, rank 0 on {machine} has {wanted}"
        for rank, (node, facts) in enumerate(gathered)
        for (name, value), wanted in zip(asdict(facts).items(), asdict(expected).values(), strict=True)
        if value != wanted
    ]


def measure_exchange(device: torch.device) -> dict[str, Any]:
    """Seconds of an all-reduce of one number, and bytes a second of larger ones, by their size; the slowest process's.

    Bytes a second are those of the tensor over the time that its sum takes to reach every process.
    """
    rates = {size: size / _slowest(lambda size=size: _all_reduce(size, device)) for size in SIZES}
    return {
        "latency_seconds": _slowest(lambda: _all_reduce(4, device)),
        "bytes_per_second": {str(size): rate for size, rate in rates.items()},
    }


def _all_reduce(size: int, device: torch.device) -> float:
    tensor = torch.ones(size // 4, device=device)
    return _timed(lambda: dist.all_reduce(tensor), device)


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Median seconds of `work` over `TURNS`, after one that is not counted."""
    seconds: list[float] = []
    for _ in range(TURNS + 1):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def _slowest(measure: Callable[[], float]) -> float:
    return max(gather_objects(measure()))


def predict_step(config: Config, device: torch.device, exchange: dict[str, Any] | None) -> dict[str, Any]:
    """Seconds of a step of `config`'s network, without classifier, data and optimiser: compute and exchange in turn.

    Compute is `MEASURED_BATCH` images' forward and backward pass, scaled up to the batch and its passes; exchange are
    the gradients' bytes by the measured rate. In training they overlap, so that a step takes less than the sum.
    """
    network = create_model(
        config.network.name,
        embedding_dim=config.network.embedding_dim,
        image_size=config.network.image_size,
        **config.network.options,
    ).to(device)
    precision = resolve_precision(config.precision, device)
    images = torch.randn(MEASURED_BATCH, 3, *config.network.image_size, device=device)

    def work() -> None:
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            embeddings = network(images)
        embeddings.sum().backward()

    passes = choose_accumulate(config)
    compute = _slowest(lambda: _timed(work, device)) * config.batch_size / MEASURED_BATCH * passes
    width = 4 if config.distributed.compress == "none" else 2
    gradient_bytes = width * sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    sent = 0.0
    if exchange is not None:
        sent = exchange["latency_seconds"] + gradient_bytes / exchange["bytes_per_second"][str(SIZES[-1])]
    return {
        "gradient_bytes": gradient_bytes,
        "compute_seconds": compute,
        "exchange_seconds": sent,
        "step_seconds": compute + sent,
        "samples_per_second": config.batch_size * passes * world_size() / (compute + sent),
    }


def check_world(config: Config | None) -> dict[str, Any]:
    """The whole check, to be called in every process; the result is the same in each."""
    device = resolve_device("auto" if config is None else config.device)
    facts = gather_facts(config)
    result: dict[str, Any] = {
        "processes": world_size(),
        "machines": sorted({node for node, _ in facts}),
        "facts": asdict(facts[0][1]),
        "differences": differences(facts),
        "device": device.type,
    }
    if world_size() > 1:
        result["exchange"] = measure_exchange(device)
    if config is not None and not result["differences"]:
        result["step"] = predict_step(config, device, result.get("exchange"))
    return result
