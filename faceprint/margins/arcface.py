"""ArcFace: additive margin on the angle (Deng et al., arXiv 1801.07698)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from faceprint.errors import UserError
from faceprint.margins.angle import add_angle
from faceprint.margins.plain import Plain, require
from faceprint.margins.target import replace_target, straight_through


class ArcFace(Plain):
    """logit = s cos(θ + m) for the right class, s cos θ for the others (equation 3).

    `scale` s > 0; `margin` m is in radians, 0 <= m < π. Where θ + m > π the formula is applied as it stands, unless
    one of the published system's two options is on:
    - `easy_margin`: the margin only where cos θ > 0, cos θ elsewhere;
    - `hard_fallback`: cos θ - m sin m where θ + m > π, so that the logit keeps falling with θ.

    The gradient is the true one, d cos(θ + m) / d cos θ = sin(θ + m) / sin θ, with sin² θ held above 1e-7, so that
    cos θ = ±1 (and rounding beyond it) gives finite values and gradients. `straight_through` gives that of
    arcface_torch instead: **the values of the formula, the gradient as if d cos(θ + m) / d cos θ were 1.**
    Raises `UserError` outside these ranges, and for both options together.
    """

    def __init__(
        self,
        scale: float = 64.0,
        margin: float = 0.5,
        easy_margin: bool = False,
        hard_fallback: bool = False,
        straight_through: bool = False,
    ) -> None:
        super().__init__()
        ranges = "ArcFace takes scale > 0 and 0 <= margin < π radians"
        require(scale > 0 and 0 <= margin < math.pi, ranges, scale=scale, margin=margin)
        if easy_margin and hard_fallback:
            raise UserError("ArcFace takes easy_margin or hard_fallback, not both; leave one out")
        self.scale = scale
        self.margin = margin
        self.easy_margin = easy_margin
        self.hard_fallback = hard_fallback
        self.straight_through = straight_through

    def forward(self, cosine: Tensor, target_cosine: Tensor, positives: Tensor, norms: Tensor) -> Tensor:
        """See `faceprint.margins`: cosines (B, C) -> logits (B, C)."""
        shifted = self._shift(target_cosine)
        if self.straight_through:
            shifted = straight_through(target_cosine, shifted)
        return self.scale * replace_target(cosine, positives, shifted)

    def _shift(self, cosine: Tensor) -> Tensor:
        shifted = add_angle(cosine, self.margin)
        if self.easy_margin:
            return torch.where(cosine > 0, shifted, cosine)
        if self.hard_fallback:
            beyond = cosine < math.cos(math.pi - self.margin)
            return torch.where(beyond, cosine - self.margin * math.sin(self.margin), shifted)
        return shifted
