"""Triplet loss: embeddings are compared with each other, and there are no class centres."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceprint.classifier.partial_fc import BatchStatistics
from faceprint.margins.plain import require, require_choice

Mining = Literal["batch_hard", "semi_hard"]


class TripletLoss(nn.Module):
    """mean(max(0, d(a, p) - d(a, n) + m)) over triplets of anchor, positive (same identity) and negative (another).

    d is the squared Euclidean distance of L2-normalised embeddings, 0..4 (Schroff et al., arXiv 1503.03832, section
    3.1); 0 <= `margin` m <= 4. `mining` chooses the triplets:
    - "batch_hard": an anchor's farthest positive and nearest negative (Hermans et al., arXiv 1703.07737, section 2;
      **squared distances, because the gradient of plain ones has no bound at 0**);
    - "semi_hard": for each anchor and positive the nearest negative that is farther than the positive (section 3.2 of
      1503.03832); where there is none, the farthest negative.

    Batches must hold several images of an identity: `sampler.name: pk`. Raises `UserError` outside these ranges.
    """

    def __init__(self, margin: float = 0.2, mining: Mining = "batch_hard") -> None:
        super().__init__()
        require(0 <= margin <= 4, "TripletLoss takes margin in 0..4", margin=margin)
        require_choice("mining of TripletLoss", mining, get_args(Mining))
        self.margin = margin
        self.mining = mining

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Raw embeddings (B, D) of any float type, labels (B,) int64 -> mean loss, a float32 scalar.

        Anchors without a positive or a negative in the batch do not count; 0 where none is left.
        """
        return self.measure(embeddings, labels)[0]

    def measure(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, BatchStatistics]:
        """As `forward`, with the statistics of the batch: the mean and the lowest cosine of the same identity's
        pairs, the share of images whose nearest other image is of their own identity, and the mean length of the
        embeddings."""
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.float()
            cosine = functional.normalize(embeddings) @ functional.normalize(embeddings).T
            distances = (2.0 - 2.0 * cosine).clamp_min(0.0)
            same = labels.unsqueeze(0) == labels.unsqueeze(1)
            others = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
            mine = batch_hard if self.mining == "batch_hard" else semi_hard
            near, far, valid = mine(distances, same & others, ~same)
            losses = functional.relu(near - far + self.margin).where(valid, 0.0)
            loss = losses.sum() / valid.sum().clamp_min(1)
            return loss, _describe(cosine.detach(), same & others, others, embeddings.detach())


def batch_hard(distances: Tensor, positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distances and masks (B, B) -> each anchor's farthest positive, nearest negative, and whether it has both (B,)."""
    farthest = distances.where(positives, 0.0).amax(1)
    nearest = distances.where(negatives, torch.inf).amin(1)
    return farthest, nearest, positives.any(1) & negatives.any(1)


def semi_hard(distances: Tensor, positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distances and masks (B, B) -> for each pair (B, B): its distance, that of its negative, and whether it counts.

    Works on the sorted negatives of each anchor, so nothing of size B³ is made.
    """
    ordered = distances.where(negatives, torch.inf).sort(1).values
    count = negatives.sum(1, keepdim=True)
    first_beyond = torch.searchsorted(ordered.detach(), distances.detach(), right=True)
    chosen = ordered.gather(1, torch.minimum(first_beyond, count - 1).clamp_min(0))
    return distances, chosen, positives & (count > 0)


def _describe(cosine: Tensor, positives: Tensor, others: Tensor, embeddings: Tensor) -> BatchStatistics:
    own = cosine.where(positives, 0.0).sum() / positives.sum().clamp_min(1)
    lowest = cosine.where(positives, 1.0).amin()
    nearest = cosine.where(others, -torch.inf).argmax(1, keepdim=True)
    right = positives.gather(1, nearest).float().mean()
    return BatchStatistics(own, lowest, right, embeddings.norm(dim=1).mean())
