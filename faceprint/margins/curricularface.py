"""CurricularFace: hard other classes count little at first and more later (Huang et al., arXiv 2004.00288)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from faceprint.margins.angle import add_angle
from faceprint.margins.plain import Plain, require
from faceprint.margins.target import replace_target


class CurricularFace(Plain):
    """logit = s cos(θ + m) for the right class; s cos θ_j for the others, or s cos θ_j (t + cos θ_j) for hard ones.

    Hard are those with cos θ_j > cos(θ + m) (section 3). t starts at 0 and is the running mean of the batch's mean
    cosine with the right class; it keeps `momentum` of its value each step, **as in the published code (the paper's
    text gives the new value the weight 0.99)**, and no gradient goes through it. `scale` s > 0; `margin` m in radians,
    0 <= m < π; **where θ + m > π the formula is applied as it stands, the published code has cos θ - m sin m there**;
    `momentum` in 0..1. The gradient is the true one, sin² θ held above 1e-7. Raises `UserError` outside these ranges.
    """

    t: Tensor

    def __init__(self, scale: float = 64.0, margin: float = 0.5, momentum: float = 0.99) -> None:
        super().__init__()
        require(
            scale > 0 and 0 <= margin < math.pi and 0 <= momentum <= 1,
            "CurricularFace takes scale > 0, 0 <= margin < π radians and momentum in 0..1",
            scale=scale,
            margin=margin,
            momentum=momentum,
        )
        self.scale = scale
        self.margin = margin
        self.momentum = momentum
        self.register_buffer("t", torch.zeros(()))

    def begin(self, target_cosine: Tensor, norms: Tensor) -> None:
        """Take the batch's mean target cosine into t."""
        self.t.lerp_(target_cosine.mean().to(self.t), 1.0 - self.momentum)

    def forward(self, cosine: Tensor, target_cosine: Tensor, positives: Tensor, norms: Tensor) -> Tensor:
        """See `faceprint.margins`: cosines (B, C) -> logits (B, C)."""
        shifted = add_angle(target_cosine, self.margin)
        hard = cosine > shifted.unsqueeze(1)
        others = torch.where(hard, cosine * (self.t + cosine), cosine)
        return self.scale * replace_target(others, positives, shifted)
