"""SphereFace: multiplied angle, eased in by annealing (Liu et al., arXiv 1704.08063)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from faceprint.margins.angle import multiply_angle
from faceprint.margins.plain import Plain, require
from faceprint.margins.target import replace_target


class SphereFace(Plain):
    """A-Softmax: logit = ‖x‖ (λ cos θ + ψ(θ)) / (1 + λ) for the right class, ‖x‖ cos θ for the others.

    ψ(θ) = (-1)^k cos(mθ) - 2k for θ in kπ/m .. (k+1)π/m (equation 7), `margin` m a whole number >= 1. The length of
    the embedding is the scale, and its gradient is passed on. λ falls with the number i of training steps as
    max(`lambda_min`, `base` (1 + `gamma` i)^-`power`), with the values of the published training; all >= 0.
    Loss type 1 of the 2017 InsightFace system, but for λ: **that system multiplied it by a factor each step.**
    cos(mθ) is a polynomial of cos θ, so the true gradient is finite everywhere. Raises `UserError` outside these
    ranges.
    """

    iteration: Tensor

    def __init__(
        self, margin: int = 4, base: float = 1000.0, gamma: float = 0.12, power: float = 1.0, lambda_min: float = 5.0
    ) -> None:
        super().__init__()
        require(
            margin >= 1 and margin % 1 == 0 and min(base, gamma, power, lambda_min) >= 0,
            "SphereFace takes a whole margin >= 1 and base, gamma, power, lambda_min >= 0",
            margin=margin,
            base=base,
            gamma=gamma,
            power=power,
            lambda_min=lambda_min,
        )
        self.margin = margin
        self.base = base
        self.gamma = gamma
        self.power = power
        self.lambda_min = lambda_min
        self.register_buffer("iteration", torch.zeros((), dtype=torch.int64))

    def begin(self, target_cosine: Tensor, norms: Tensor) -> None:
        """Count the step: λ is a function of how many there were."""
        self.iteration += 1

    def forward(self, cosine: Tensor, target_cosine: Tensor, positives: Tensor, norms: Tensor) -> Tensor:
        """See `faceprint.margins`: cosines (B, C) -> logits (B, C)."""
        weight = (self.base * (1.0 + self.gamma * self.iteration) ** -self.power).clamp_min(self.lambda_min)
        changed = (weight * target_cosine + self._psi(target_cosine)) / (1.0 + weight)
        return norms.unsqueeze(1) * replace_target(cosine, positives, changed)

    def _psi(self, cosine: Tensor) -> Tensor:
        k = torch.zeros_like(cosine)
        for i in range(1, self.margin):
            k = k + (cosine < math.cos(i * math.pi / self.margin))
        return (1.0 - 2.0 * (k % 2)) * multiply_angle(cosine, self.margin) - 2.0 * k
