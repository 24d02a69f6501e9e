"""How the cosines of training batches are distributed: counts in bins, kept on the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

BINS = 40
"""Of equal width from -1 to 1."""


class CosineCounts:
    """Counts of cosines with the own class, and with the most similar other class, since the last log line."""

    NAMES = ("target_cosine_counts", "other_cosine_counts")

    def __init__(self, device: torch.device) -> None:
        self.counts = torch.zeros(len(self.NAMES), BINS, dtype=torch.int64, device=device)
        self.any = False

    def add(self, cosines: tuple[Tensor, Tensor] | None) -> None:
        """Both of a batch, (B,) each; None for a loss that has no such."""
        if cosines is not None:
            self.counts += torch.stack([count(each) for each in cosines])
            self.any = True

    def take(self) -> dict[str, list[int]]:
        """The counts since the last call, by name; empty where nothing was counted."""
        taken: dict[str, list[int]] = {}
        if self.any:
            taken.update(zip(self.NAMES, self.counts.tolist(), strict=True))
        self.counts.zero_()
        self.any = False
        return taken

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self.counts, "any": self.any}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.counts.copy_(state["counts"])
        self.any = bool(state["any"])


def count(cosines: Tensor) -> Tensor:
    """Cosines (B,) -> how many lie in each bin (`BINS`,) int64; a bin has its lower edge, the last one both."""
    # A sum of one-hot rows: a histogram on CUDA is not deterministic.
    bins = ((cosines.detach() + 1) * (BINS / 2)).nan_to_num(0.0).clamp(0, BINS - 1).long()
    return functional.one_hot(bins, BINS).sum(0)
