"""AdaCos: no margin, and a scale that follows the training (Zhang et al., arXiv 1905.00292)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from faceprint.margins.angle import angle
from faceprint.margins.plain import Plain, require

MIN_SCALE = 1.0


class AdaCos(Plain):
    """logit = s cos θ for every class.

    s starts as √2 log(C - 1) for C = `num_classes` >= 3 and stays there without `dynamic`. With it,
    s = log(B) / cos(min(π/4, θ_med)) after every step, where B is the batch's mean of the sum of e^(s cos θ_j) over
    other classes and θ_med the median angle to the right class. **Two deviations: a step uses the s that the step
    before led to (B is known only after the logits), and s never falls below 1.** Raises `UserError` for fewer
    classes.
    """

    scale: Tensor
    next_scale: Tensor
    median_angle: Tensor

    def __init__(self, num_classes: int, dynamic: bool = True) -> None:
        super().__init__()
        require(num_classes >= 3, "AdaCos takes num_classes >= 3", num_classes=num_classes)
        self.dynamic = dynamic
        first = max(MIN_SCALE, math.sqrt(2.0) * math.log(num_classes - 1))
        self.register_buffer("scale", torch.tensor(first))
        self.register_buffer("next_scale", torch.tensor(first))
        self.register_buffer("median_angle", torch.tensor(math.pi / 2), persistent=False)

    def begin(self, target_cosine: Tensor, norms: Tensor) -> None:
        """Take up the scale of the last `end`, which must not change between a step's forward and backward pass."""
        self.scale.copy_(self.next_scale)
        self.median_angle.copy_(angle(target_cosine).median())

    def forward(self, cosine: Tensor, target_cosine: Tensor, positives: Tensor, norms: Tensor) -> Tensor:
        """See `faceprint.margins`: cosines (B, C) -> logits (B, C)."""
        return self.scale * cosine

    def end(self, log_sum_exp: Tensor, target_logits: Tensor) -> None:
        """The scale of the next step, from this one's sums over classes (B,) and target logits (B,)."""
        if not self.dynamic:
            return
        share_of_others = -torch.expm1(target_logits - log_sum_exp)
        log_others = log_sum_exp + share_of_others.clamp_min(torch.finfo(torch.float32).tiny).log()
        log_mean = log_others.logsumexp(0) - math.log(len(log_others))
        scale = log_mean / self.median_angle.clamp_max(math.pi / 4).cos()
        self.next_scale.copy_(scale.clamp_min(MIN_SCALE))
