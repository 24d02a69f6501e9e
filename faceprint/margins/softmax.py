"""Plain softmax: no margin, no normalisation (loss type 0 of the 2017 InsightFace system)."""

from __future__ import annotations

from torch import Tensor

from faceprint.margins.plain import Plain, require

MIN_NORM = 1e-3


class Softmax(Plain):
    """logit = w · x + b: the inner products with the class weights plus a bias, unchanged.

    `incay` λ >= 0 weighs feature incay, which lengthens embeddings (reciprocal norm loss, Yuan et al.,
    arXiv 1705.10284): λ mean(1 / ‖x‖²), lengths held above 1e-3; 0 leaves it out. **The paper and
    the 2017 system have it for correctly classified images only, here it is for all.** Raises `UserError` outside this
    range.
    """

    normalized = False

    def __init__(self, incay: float = 0.0) -> None:
        super().__init__()
        require(incay >= 0, "Softmax takes incay >= 0", incay=incay)
        self.incay = incay

    def forward(self, cosine: Tensor, target_cosine: Tensor, positives: Tensor, norms: Tensor) -> Tensor:
        """(B, C) inner products -> the same (B, C) logits; the other arguments are not used."""
        return cosine

    def penalty(self, norms: Tensor) -> Tensor:
        """λ mean(1 / ‖x‖²) of `norms` (B,)."""
        return self.incay * norms.clamp_min(MIN_NORM).pow(-2).mean()
