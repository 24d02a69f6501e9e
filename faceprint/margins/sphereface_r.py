"""SphereFace-R: a multiplied angle that trains stably (Liu et al., arXiv 2109.05565)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from faceprint.margins.angle import angle
from faceprint.margins.plain import Plain, require
from faceprint.margins.target import replace_target, straight_through


class SphereFaceR(Plain):
    """logit = s cos(min(m, π/θ) θ) for the right class, s cos θ for the others: version 1 of the paper.

    `margin` m >= 1 need not be whole; `scale` s > 0 (hard feature normalisation). The gradient is the true one, by
    `angle.angle`, and so 0 where mθ > π. `detach` is the paper's characteristic gradient detachment, which its
    experiments use: **the values of the formula, the gradient as if d ψ / d cos θ were 1.**
    Raises `UserError` outside these ranges.
    """

    def __init__(self, scale: float = 30.0, margin: float = 1.5, detach: bool = False) -> None:
        super().__init__()
        require(scale > 0 and margin >= 1, "SphereFaceR takes scale > 0 and margin >= 1", scale=scale, margin=margin)
        self.scale = scale
        self.margin = margin
        self.detach = detach

    def forward(self, cosine: Tensor, target_cosine: Tensor, positives: Tensor, norms: Tensor) -> Tensor:
        """See `faceprint.margins`: cosines (B, C) -> logits (B, C)."""
        changed = torch.cos((self.margin * angle(target_cosine)).clamp_max(math.pi))
        if self.detach:
            changed = straight_through(target_cosine, changed)
        return self.scale * replace_target(cosine, positives, changed)
