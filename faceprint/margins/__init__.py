"""Margins: what changes the cosine of the right identity before the softmax. They hold no class centres.

The seam: a classifier gathers the batch, computes cosines against its class centres, and for each training step calls

    margin.begin(target_cosine, norms)                                   once, under no_grad
    logits = margin(cosine, target_cosine, positives, norms)             once for each block of classes
    loss = (the loss over all logits) + margin.penalty(norms)
    margin.end(log_sum_exp, target_logits)                               once, under no_grad

- `cosine` (B, c) float32: embeddings against the classes at hand (a shard, a sample, a block of classes); plain inner
  products plus bias for a margin with `normalized = False`,
- `target_cosine` (B,) float32: the cosine with the right class, wherever that class lives,
- `positives` (B,) int64: the column of the right class, or -1 where it is not among these classes,
- `norms` (B,) float32: length of each embedding before normalisation,
- returns logits (B, c) float32, scaled, ready for the loss.

The call treats every column by itself (no reduction over classes), so that blocks put together are the whole, and gives
the same result when it is repeated before the next `begin` (blocks may be computed again in the backward pass). It is
differentiable with respect to `cosine`, `target_cosine`, `norms` and the margin's own parameters, if it has any: the
classifier passes gradients on to `margin.parameters()`.

`begin` and `end` get the whole gathered batch, the same on every process, so margins need no collectives. What they
remember (running statistics, step counters) is in buffers and saved with checkpoints; draws are functions of a seed and
a counter. `end` gets the log-sum-exp over all classes (B,) and the target's logits (B,); it changes nothing that the
call uses before the next `begin`.

`loss` says how logits become a loss, each the mean over the batch: "softmax" is cross-entropy; "binary" is softplus(-z)
of the right class plus the sum of softplus(z) over the others. `penalty(norms)` is a scalar that is added to it.

Every numeric option is an attribute of the same name that may change between steps (`margin.schedule`).
"""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor

from faceprint.margins.adacos import AdaCos
from faceprint.margins.adaface import AdaFace
from faceprint.margins.arcface import ArcFace
from faceprint.margins.combined import Combined
from faceprint.margins.cosface import CosFace
from faceprint.margins.curricularface import CurricularFace
from faceprint.margins.elasticface import ElasticFace
from faceprint.margins.magface import MagFace
from faceprint.margins.mv_softmax import MVSoftmax
from faceprint.margins.plain import Plain
from faceprint.margins.softmax import Softmax
from faceprint.margins.sphereface import SphereFace
from faceprint.margins.sphereface_r import SphereFaceR
from faceprint.margins.uniface import UniFace
from faceprint.registry import Table

__all__ = [
    "MARGINS",
    "AdaCos",
    "AdaFace",
    "ArcFace",
    "Combined",
    "CosFace",
    "CurricularFace",
    "ElasticFace",
    "MVSoftmax",
    "MagFace",
    "Margin",
    "Softmax",
    "SphereFace",
    "SphereFaceR",
    "UniFace",
]


class Margin(Protocol):
    """See the module's text.

    `normalized`: whether it wants cosines or plain inner products with a bias; `loss`: what its logits are for.
    """

    normalized: bool
    loss: Literal["softmax", "binary"]

    def begin(self, target_cosine: Tensor, norms: Tensor) -> None: ...

    def __call__(self, cosine: Tensor, target_cosine: Tensor, positives: Tensor, norms: Tensor) -> Tensor: ...

    def penalty(self, norms: Tensor) -> Tensor: ...

    def end(self, log_sum_exp: Tensor, target_logits: Tensor) -> None: ...


MARGINS: Table[type[Plain]] = Table(
    "margin",
    [
        ("softmax", Softmax),
        ("sphereface", SphereFace),
        ("sphereface_r", SphereFaceR),
        ("cosface", CosFace),
        ("arcface", ArcFace),
        ("combined", Combined),
        ("adaface", AdaFace),
        ("magface", MagFace),
        ("curricularface", CurricularFace),
        ("elasticface", ElasticFace),
        ("mv_softmax", MVSoftmax),
        ("adacos", AdaCos),
        ("uniface", UniFace),
    ],
)
