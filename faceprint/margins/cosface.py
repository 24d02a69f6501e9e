"""CosFace: additive margin on the cosine (Wang et al., arXiv 1801.09414)."""

from __future__ import annotations

from torch import Tensor

from faceprint.margins.plain import Plain, require
from faceprint.margins.target import replace_target


class CosFace(Plain):
    """logit = s (cos θ - m) for the right class, s cos θ for the others (section 3.1).

    `scale` s > 0; `margin` m >= 0 is in units of cosine. Raises `UserError` outside these ranges.
    """

    def __init__(self, scale: float = 64.0, margin: float = 0.4) -> None:
        super().__init__()
        require(scale > 0 and margin >= 0, "CosFace takes scale > 0 and margin >= 0", scale=scale, margin=margin)
        self.scale = scale
        self.margin = margin

    def forward(self, cosine: Tensor, target_cosine: Tensor, positives: Tensor, norms: Tensor) -> Tensor:
        """See `faceprint.margins`: cosines (B, C) -> logits (B, C)."""
        return self.scale * replace_target(cosine, positives, target_cosine - self.margin)
