"""UniFace: one threshold between right and wrong classes for all images (Zhou et al., ICCV 2023, pages 20673-20682)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from faceprint.margins.plain import Plain, require
from faceprint.margins.target import replace_target


class UniFace(Plain):
    """z = s (cos θ - m) - b for the right class, s cos θ - b for the others; the loss is binary.

    Unified cross-entropy: an image's loss is softplus(-z) of its right class plus the sum of softplus(z) over the
    others, so every right cosine is pushed above the one threshold b / s, and every wrong one below. `bias` b is
    learned from log(10 C), C = `num_classes` >= 2. `scale` s > 0; `margin` m >= 0 in units of cosine. **The paper's
    weights of wrong classes (λ, r) are 1, their published default, and the published code's clamp of z to ±s is left
    out: softplus needs none.** Raises `UserError` outside these ranges.
    """

    loss = "binary"

    def __init__(self, num_classes: int, scale: float = 64.0, margin: float = 0.4) -> None:
        super().__init__()
        require(
            num_classes >= 2 and scale > 0 and margin >= 0,
            "UniFace takes num_classes >= 2, scale > 0 and margin >= 0",
            num_classes=num_classes,
            scale=scale,
            margin=margin,
        )
        self.scale = scale
        self.margin = margin
        self.bias = nn.Parameter(torch.tensor(math.log(10.0 * num_classes)))

    def forward(self, cosine: Tensor, target_cosine: Tensor, positives: Tensor, norms: Tensor) -> Tensor:
        """See `faceprint.margins`: cosines (B, C) -> logits (B, C)."""
        return self.scale * replace_target(cosine, positives, target_cosine - self.margin) - self.bias
