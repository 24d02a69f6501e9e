"""The combined margin: multiplied angle, added angle and subtracted cosine (Deng et al., arXiv 1801.07698)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from faceprint.margins.angle import angle
from faceprint.margins.plain import Plain, require
from faceprint.margins.target import replace_target


class Combined(Plain):
    """logit = s (cos(m1 θ + m2) - m3) for the right class, s cos θ for the others (equation 4).

    `m1` >= 0 multiplies the angle, 0 <= `m2` < π radians is added to it, `m3` >= 0 is in units of cosine; `scale`
    s > 0. All three always count, and the formula is applied as it stands beyond π. Its gradient is the true one
    (`angle.angle`).

    `interclass_filtering_threshold` in 0..1, for noisy data, as published with arcface_torch: another class whose
    cosine is above it is taken for the same person under another label, and its cosine becomes 0; 0 switches it off.
    Raises `UserError` outside these ranges.
    """

    def __init__(
        self,
        m1: float = 1.0,
        m2: float = 0.3,
        m3: float = 0.2,
        scale: float = 64.0,
        interclass_filtering_threshold: float = 0.0,
    ) -> None:
        super().__init__()
        require(
            m1 >= 0 and 0 <= m2 < math.pi and m3 >= 0 and scale > 0 and 0 <= interclass_filtering_threshold <= 1,
            "Combined takes m1 >= 0, 0 <= m2 < π radians, m3 >= 0, scale > 0, interclass_filtering_threshold in 0..1",
            m1=m1,
            m2=m2,
            m3=m3,
            scale=scale,
            interclass_filtering_threshold=interclass_filtering_threshold,
        )
        self.m1 = m1
        self.m2 = m2
        self.m3 = m3
        self.scale = scale
        self.interclass_filtering_threshold = interclass_filtering_threshold

    def forward(self, cosine: Tensor, target_cosine: Tensor, positives: Tensor, norms: Tensor) -> Tensor:
        """See `faceprint.margins`: cosines (B, C) -> logits (B, C)."""
        if self.interclass_filtering_threshold > 0:
            cosine = torch.where(cosine > self.interclass_filtering_threshold, 0.0, cosine)
        changed = torch.cos(self.m1 * angle(target_cosine) + self.m2) - self.m3
        return self.scale * replace_target(cosine, positives, changed)
