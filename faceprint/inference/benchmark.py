"""How fast embedding is: the path that `load` takes against the plain one, in turn in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from faceprint.device import resolve_device
from faceprint.errors import UserError
from faceprint.inference.folding import fold_norms
from faceprint.inference.torch_features import torch_features
from faceprint.models import create_model

Floats = NDArray[np.float32]


def benchmark_embedding(
    network: str,
    *,
    batch_size: int,
    batches: int,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Time `batches` batches through `network` with random weights: as it was trained, contiguous, one call ("plain"),
    and the way `load` runs it ("fast"), a batch of each in turn after one warm-up each. Times are medians.
    """
    if batch_size < 1 or batches < 1:
        raise UserError(f"bench needs batch_size >= 1 and batches >= 1, got {batch_size} and {batches}")
    where = resolve_device(device)
    torch.manual_seed(0)
    model = create_model(network).eval().requires_grad_(False).to(where)
    images = np.random.default_rng(0).uniform(-1, 1, (batch_size, 3, 112, 112)).astype(np.float32)

    def plain(batch: Floats) -> Floats:
        with torch.inference_mode():
            return model(torch.from_numpy(batch).to(where)).cpu().numpy()

    fast = torch_features(
        fold_norms(model).to(memory_format=torch.channels_last),  # pyright: ignore[reportCallIssue]
        where,
    )
    paths = {"plain": plain, "fast": fast}
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    outputs: dict[str, Floats] = {}
    for done in range(batches + 1):
        for name, run in paths.items():
            started = time.perf_counter()
            outputs[name] = run(images)
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
