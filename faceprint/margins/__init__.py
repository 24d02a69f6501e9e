"""Margins: what changes the cosine of the right identity before the softmax. They hold no weights.

The seam: a classifier gathers the batch, computes cosines against its class centres, and calls

    logits = margin(cosine, target_cosine, positives, norms)

- `cosine` (B, C) float32: embeddings against the classes at hand (a shard, a sample, a block of classes); plain inner
  products plus bias for a margin with `normalized = False`,
- `target_cosine` (B,) float32: the cosine with the right class, wherever that class lives,
- `positives` (B,) int64: the column of the right class, or -1 where it is not among these classes,
- `norms` (B,) float32: length of each embedding before normalisation,
- returns logits (B, C) float32, scaled, ready for softmax cross-entropy.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from faceprint.margins.arcface import ArcFace
from faceprint.margins.cosface import CosFace
from faceprint.margins.softmax import Softmax
from faceprint.registry import Table

__all__ = ["MARGINS", "ArcFace", "CosFace", "Margin", "Softmax"]


class Margin(Protocol):
    """See the module's text. `normalized`: whether it wants cosines or plain inner products with a bias."""

    normalized: bool

    def __call__(self, cosine: Tensor, target_cosine: Tensor, positives: Tensor, norms: Tensor) -> Tensor: ...


MARGINS: Table[type[Softmax] | type[CosFace] | type[ArcFace]] = Table(
    "margin",
    [
        ("softmax", Softmax),
        ("cosface", CosFace),
        ("arcface", ArcFace),
    ],
)
