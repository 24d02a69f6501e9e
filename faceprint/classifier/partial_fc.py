"""Class centres and the loss over them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceprint.errors import UserError
from faceprint.margins import Margin


class BatchStatistics(NamedTuple):
    """What a batch looked like before the margin changed it: scalars, detached, on the batch's device."""

    target_cosine: Tensor
    """Mean cosine between an embedding and the centre of its own class."""
    accuracy: Tensor
    """Share of the batch whose own class scores highest, without margin, in [0, 1]."""
    embedding_norm: Tensor
    """Mean length of the raw embeddings."""


class PartialFC(nn.Module):
    """Softmax cross-entropy over `num_classes` centres of `embedding_dim` dimensions, with a margin.

    `margin` decides what the centres are compared by: cosines, or plain inner products with a bias (`Softmax`).
    Cosines, margin and softmax are float32 whatever precision the network runs in. Centres start from N(0, 0.01),
    as in Partial FC (An et al., arXiv 2010.05222).
    """

    def __init__(self, embedding_dim: int, num_classes: int, margin: Margin) -> None:
        super().__init__()
        if num_classes < 2:
            raise UserError(f"a classifier needs at least 2 identities, got {num_classes}")
        self.num_classes = num_classes
        self.margin = margin
        self.centres = nn.Parameter(torch.empty(num_classes, embedding_dim))
        self.bias = None if margin.normalized else nn.Parameter(torch.zeros(num_classes))
        nn.init.normal_(self.centres, 0.0, 0.01)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Raw embeddings (B, D) of any float type, labels (B,) int64 -> mean loss, a float32 scalar.

        Labels must lie in 0 .. num_classes - 1; on a CPU an `IndexError` or `RuntimeError` is raised otherwise.
        """
        return self.measure(embeddings, labels)[0]

    def measure(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, BatchStatistics]:
        """As `forward`, with the statistics of the batch beside the loss."""
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.float()
            norms = embeddings.norm(dim=1)
            cosine = self._scores(embeddings)
            target_cosine = cosine.gather(1, labels.unsqueeze(1)).squeeze(1)
            logits = self.margin(cosine, target_cosine, labels, norms)
            return functional.cross_entropy(logits, labels), self._describe(embeddings, norms, cosine, labels)

    def _scores(self, embeddings: Tensor) -> Tensor:
        if self.margin.normalized:
            return functional.normalize(embeddings) @ functional.normalize(self.centres).T
        return functional.linear(embeddings, self.centres, self.bias)

    @torch.no_grad()
    def _describe(self, embeddings: Tensor, norms: Tensor, scores: Tensor, labels: Tensor) -> BatchStatistics:
        accuracy = (scores.argmax(1) == labels).float().mean()
        own = self.centres[labels]
        return BatchStatistics(functional.cosine_similarity(embeddings, own).mean(), accuracy, norms.mean())
