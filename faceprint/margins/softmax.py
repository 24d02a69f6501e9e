"""Plain softmax: no margin, no normalisation (loss type 0 of the 2017 InsightFace system)."""

from __future__ import annotations

from torch import Tensor, nn


class Softmax(nn.Module):
    """Logits are the inner products with the class weights plus a bias, unchanged."""

    normalized = False

    def forward(self, cosine: Tensor, target_cosine: Tensor, positives: Tensor, norms: Tensor) -> Tensor:
        """(B, C) inner products -> the same (B, C) logits; the other arguments are not used."""
        return cosine
