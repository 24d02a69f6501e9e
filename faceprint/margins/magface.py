"""MagFace: a margin that grows with the length of the embedding (Meng et al., arXiv 2103.06627)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from faceprint.margins.angle import add_angle
from faceprint.margins.plain import Plain, require
from faceprint.margins.target import replace_target


class MagFace(Plain):
    """logit = s cos(θ + m(a)) for the right class, s cos θ for the others, and the penalty λ mean(g(a)) (section 3.2).

    a = ‖x‖ held in `l_a` .. `u_a`; m(a) rises linearly from `l_margin` to `u_margin` over that range, in radians;
    g(a) = a / u_a² + 1 / a rewards long embeddings, with the weight `regularizer` λ. Gradients go through a.
    `scale` s > 0, 0 < l_a < u_a, 0 <= l_margin <= u_margin < π, λ >= 0. **The values are those of the published
    training script; the paper's text has l_margin 0.4.**
    `easy_margin`, on in the published code: the margin only where cos θ > 0, cos θ elsewhere.
    Raises `UserError` outside these ranges.
    """

    def __init__(
        self,
        scale: float = 64.0,
        l_a: float = 10.0,
        u_a: float = 110.0,
        l_margin: float = 0.45,
        u_margin: float = 0.8,
        regularizer: float = 35.0,
        easy_margin: bool = False,
    ) -> None:
        super().__init__()
        require(
            scale > 0 and 0 < l_a < u_a and 0 <= l_margin <= u_margin < math.pi and regularizer >= 0,
            "MagFace takes scale > 0, 0 < l_a < u_a, 0 <= l_margin <= u_margin < π radians and regularizer >= 0",
            scale=scale,
            l_a=l_a,
            u_a=u_a,
            l_margin=l_margin,
            u_margin=u_margin,
            regularizer=regularizer,
        )
        self.scale = scale
        self.l_a = l_a
        self.u_a = u_a
        self.l_margin = l_margin
        self.u_margin = u_margin
        self.regularizer = regularizer
        self.easy_margin = easy_margin

    def forward(self, cosine: Tensor, target_cosine: Tensor, positives: Tensor, norms: Tensor) -> Tensor:
        """See `faceprint.margins`: cosines (B, C) -> logits (B, C)."""
        slope = (self.u_margin - self.l_margin) / (self.u_a - self.l_a)
        margins = self.l_margin + slope * (self._magnitude(norms) - self.l_a)
        changed = add_angle(target_cosine, margins)
        if self.easy_margin:
            changed = torch.where(target_cosine > 0, changed, target_cosine)
        return self.scale * replace_target(cosine, positives, changed)

    def penalty(self, norms: Tensor) -> Tensor:
        """λ mean(g(a)) of `norms` (B,)."""
        magnitude = self._magnitude(norms)
        return self.regularizer * (magnitude / self.u_a**2 + 1.0 / magnitude).mean()

    def _magnitude(self, norms: Tensor) -> Tensor:
        return norms.clamp(self.l_a, self.u_a)
