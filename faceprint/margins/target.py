"""Steps that margins share: what is put at the column of the right class."""

from __future__ import annotations

import torch
from torch import Tensor


def replace_target(cosine: Tensor, positives: Tensor, values: Tensor) -> Tensor:
    """`cosine` (B, C) with row i's column `positives[i]` replaced by `values[i]`; rows with -1 stay as they are.

    Differentiable in both; nothing of size (B, C) is made but the result.
    """
    column = positives.clamp_min(0).unsqueeze(1)
    present = (positives >= 0).unsqueeze(1)
    return cosine.scatter(1, column, torch.where(present, values.unsqueeze(1), cosine.gather(1, column)))


def straight_through(cosine: Tensor, changed: Tensor) -> Tensor:
    """The values of `changed` with the gradient of `cosine`: as if d changed / d cos θ were 1."""
    return cosine + (changed - cosine).detach()
