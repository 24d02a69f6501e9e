"""A PyTorch network as a function from network input to raw embeddings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from faceprint.inference.parallel import side_by_side

Floats = NDArray[np.float32]

_IMAGES_A_CALL = 8  # on the CPU: the maps of more leave the caches; mbf takes 8.4 ms an image, of 64 at once 19
_MOST_CALLS = 8  # side by side: Python itself is the limit then


def torch_features(network: nn.Module, device: torch.device) -> Callable[[Floats], Floats]:
    """float32 (B, 3, H, W) -> raw embeddings float32 (B, D) by `network`, which is on `device`.

    It is put into evaluation mode. On the CPU as many calls run side by side as torch has threads, up to 8, and they
    share those.
    """
    network.eval()

    def run(batch: Floats) -> Floats:
        with torch.inference_mode():
            images = torch.from_numpy(batch).to(device, memory_format=torch.channels_last)
            return network(images).float().cpu().numpy()

    total = torch.get_num_threads()
    if device.type != "cpu" or total == 1 or not torch.backends.openmp.is_available():
        return side_by_side(run, threads=1, largest=_IMAGES_A_CALL) if device.type == "cpu" else run
    calls = min(total, _MOST_CALLS)
    features = side_by_side(run, threads=calls, largest=_IMAGES_A_CALL, start=lambda: _set_threads(total // calls))
    torch.set_num_threads(total)  # for threads yet to come: the calls before spoke for these too
    return features


def _set_threads(count: int) -> None:
    """Set the number of threads for computations of this thread."""
    torch.get_num_threads()  # what is set before the first question is overwritten by it
    torch.set_num_threads(count)
