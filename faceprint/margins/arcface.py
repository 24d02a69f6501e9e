"""ArcFace: additive margin on the angle (Deng et al., arXiv 1801.07698)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from faceprint.errors import UserError
from faceprint.margins.target import replace_target

MIN_SQUARED_SINE = 1e-7
"""About the resolution of 1 - cos² in float32; below it the sine is noise and its gradient 1/sin θ without bound."""


class ArcFace(nn.Module):
    """logit = s cos(θ + m) for the right class, s cos θ for the others (equation 3).

    `scale` s > 0; `margin` m is in radians, 0 <= m < π. The gradient is the true one,
    d cos(θ + m) / d cos θ = sin(θ + m) / sin θ, with sin² θ held above 1e-7, so that cos θ = ±1 (and rounding
    beyond it) gives finite values and gradients. Where θ + m > π the formula is applied as it stands.
    Raises `UserError` outside these ranges.
    """

    normalized = True

    def __init__(self, scale: float = 64.0, margin: float = 0.5) -> None:
        super().__init__()
        if not (scale > 0 and 0 <= margin < math.pi):
            raise UserError(f"ArcFace takes scale > 0 and 0 <= margin < π radians, got scale={scale}, margin={margin}")
        self.scale = scale
        self.margin = margin

    def forward(self, cosine: Tensor, target_cosine: Tensor, positives: Tensor, norms: Tensor) -> Tensor:
        """See `faceprint.margins`: cosines (B, C) -> logits (B, C)."""
        sine = (1.0 - target_cosine.square()).clamp_min(MIN_SQUARED_SINE).sqrt()
        shifted = target_cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        return self.scale * replace_target(cosine, positives, shifted)
