"""AdaFace: a margin that follows image quality, read from the embedding's length (Kim et al., arXiv 2204.00964)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from faceprint.margins.angle import angle
from faceprint.margins.plain import Plain, require
from faceprint.margins.target import replace_target

MIN_NORM, MAX_NORM = 1e-3, 100.0
EPSILON = 1e-3
FIRST_MEAN, FIRST_STD = 20.0, 100.0


class AdaFace(Plain):
    """logit = s (cos(θ - m ẑ) - m ẑ - m) for the right class, s cos θ for the others (section 3.3).

    ẑ = h (‖x‖ - μ) / (σ + 1e-3), held in -1..1, is the quality of the image; ‖x‖ is held in 1e-3..100, and no gradient
    goes through it. μ and σ are running mean and standard deviation of ‖x‖, which keep `momentum` of their value each
    step and start at 20 and 100, as in the published code. θ - m ẑ is held in 0..π. `scale` s > 0, 0 <= `margin` m <
    π/2, concentration `h` > 0, `momentum` in 0..1. The gradient by cos θ is the true one (`angle.angle`).
    Raises `UserError` outside these ranges.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, scale: float = 64.0, margin: float = 0.4, h: float = 0.333, momentum: float = 0.99) -> None:
        super().__init__()
        require(
            scale > 0 and 0 <= margin < math.pi / 2 and h > 0 and 0 <= momentum <= 1,
            "AdaFace takes scale > 0, 0 <= margin < π/2, h > 0 and momentum in 0..1",
            scale=scale,
            margin=margin,
            h=h,
            momentum=momentum,
        )
        self.scale = scale
        self.margin = margin
        self.h = h
        self.momentum = momentum
        self.register_buffer("mean", torch.tensor(FIRST_MEAN))
        self.register_buffer("std", torch.tensor(FIRST_STD))

    def begin(self, target_cosine: Tensor, norms: Tensor) -> None:
        """Take the batch's lengths (B,) into the running mean and standard deviation."""
        norms = norms.clamp(MIN_NORM, MAX_NORM)
        self.mean.lerp_(norms.mean().to(self.mean), 1.0 - self.momentum)
        self.std.lerp_(norms.std(correction=int(len(norms) > 1)).to(self.std), 1.0 - self.momentum)

    def forward(self, cosine: Tensor, target_cosine: Tensor, positives: Tensor, norms: Tensor) -> Tensor:
        """See `faceprint.margins`: cosines (B, C) -> logits (B, C)."""
        lengths = norms.detach().clamp(MIN_NORM, MAX_NORM)
        quality = (self.h * (lengths - self.mean) / (self.std + EPSILON)).clamp(-1.0, 1.0)
        theta = (angle(target_cosine) - self.margin * quality).clamp(0.0, math.pi)
        changed = theta.cos() - self.margin * (quality + 1.0)
        return self.scale * replace_target(cosine, positives, changed)
