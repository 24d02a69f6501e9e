"""Random numbers of a training: functions of the seed and the place, so that a resumed run draws the same."""

from __future__ import annotations

import torch
from torch import Tensor

from faceprint.distributed import rank


def seed_process(seed: int, step: int = 0) -> None:
    """Give this process random numbers of its own (dropout must not drop the same everywhere), from `step` on."""
    if rank() or step:
        torch.manual_seed((seed * 1_000_003 + step * 65_537 + rank()) % 2**63)


def cuda_random() -> Tensor | None:
    """The state of this process's CUDA generator; None where CUDA was not used."""
    return torch.cuda.get_rng_state() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
