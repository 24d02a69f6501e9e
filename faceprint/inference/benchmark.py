"""How fast embedding is: the path that `load` takes against the plain one, in turn in one process."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from faceprint.device import resolve_device
from faceprint.errors import UserError
from faceprint.inference.folding import fold_norms
from faceprint.models import create_model


def benchmark_embedding(
    network: str,
    *,
    batch_size: int,
    batches: int,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Time `batches` batches through `network` with random weights: as it was trained, contiguous ("plain"), and with
    norms folded, channels-last ("fast"), a batch of each in turn after one warm-up each. Times are medians.
    """
    if batch_size < 1 or batches < 1:
        raise UserError(f"bench needs batch_size >= 1 and batches >= 1, got {batch_size} and {batches}")
    where = resolve_device(device)
    torch.manual_seed(0)
    plain = create_model(network).eval().requires_grad_(False).to(where)
    fast = fold_norms(copy.deepcopy(plain)).to(memory_format=torch.channels_last)
    images = torch.rand(batch_size, 3, 112, 112, device=where) * 2 - 1
    paths = {"plain": (plain, images), "fast": (fast, images.contiguous(memory_format=torch.channels_last))}
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    outputs: dict[str, Any] = {}
    for done in range(batches + 1):
        for name, (model, batch) in paths.items():
            started = time.perf_counter()
            with torch.inference_mode():
                outputs[name] = model(batch).float().cpu().numpy()
            if done:  # the first is the warm-up
                seconds[name].append(time.perf_counter() - started)
        if progress:
            progress(done, batches)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    unit = {name: output / np.linalg.norm(output, axis=1, keepdims=True) for name, output in outputs.items()}
    return {
        "benchmark": "eval",
        "network": network,
        "batch_size": batch_size,
        "batches": batches,
        "threads": torch.get_num_threads(),
        "device": str(where),
        **{name: {"images_per_second": round(batch_size / median[name], 2)} for name in paths},
        "speedup": round(median["plain"] / median["fast"], 3),
        "largest_embedding_difference": float(np.abs(unit["plain"] - unit["fast"]).max()),
    }
