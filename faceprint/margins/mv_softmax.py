"""MV-Softmax: mis-classified other classes are emphasised (Wang et al., arXiv 1912.00833)."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from faceprint.margins.angle import add_angle
from faceprint.margins.plain import Plain, require, require_choice
from faceprint.margins.target import replace_target

Variant = Literal["arc", "am"]
Weighting = Literal["fixed", "adaptive"]


class MVSoftmax(Plain):
    """logit = s f for the right class, with f = cos(θ + m) ("arc") or cos θ - m ("am").

    Another class has s cos θ_j, unless it is mis-classified, cos θ_j > f: then s (cos θ_j + t - 1) with "fixed"
    `weighting` and s (t cos θ_j + t - 1) with "adaptive", which are the logarithms of the paper's h(t, θ_j, 1) e^(s cos
    θ_j). `t` >= 1, `scale` s > 0; `margin` m >= 0, for "arc" in radians and < π. **The formula is applied for every θ:
    the published code leaves the right class without margin where cos θ <= 0 ("arc") or <= m ("am").** The gradient is
    the true one. Raises `UserError` outside these ranges.
    """

    def __init__(
        self,
        scale: float = 32.0,
        margin: float = 0.35,
        t: float = 1.2,
        variant: Variant = "am",
        weighting: Weighting = "adaptive",
    ) -> None:
        super().__init__()
        require(
            scale > 0 and margin >= 0 and (variant == "am" or margin < math.pi) and t >= 1,
            'MVSoftmax takes scale > 0, margin >= 0 (and < π radians for "arc") and t >= 1',
            scale=scale,
            margin=margin,
            t=t,
        )
        require_choice("variant of MVSoftmax", variant, get_args(Variant))
        require_choice("weighting of MVSoftmax", weighting, get_args(Weighting))
        self.scale = scale
        self.margin = margin
        self.t = t
        self.variant = variant
        self.weighting = weighting

    def forward(self, cosine: Tensor, target_cosine: Tensor, positives: Tensor, norms: Tensor) -> Tensor:
        """See `faceprint.margins`: cosines (B, C) -> logits (B, C)."""
        arc = self.variant == "arc"
        changed = add_angle(target_cosine, self.margin) if arc else target_cosine - self.margin
        slope = self.t if self.weighting == "adaptive" else 1.0
        emphasised = slope * cosine + (self.t - 1.0)
        others = torch.where(cosine > changed.unsqueeze(1), emphasised, cosine)
        return self.scale * replace_target(others, positives, changed)
