"""Triplet loss: embeddings are compared with each other, and there are no class centres."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceprint.classifier.partial_fc import BatchStatistics
from faceprint.distributed import gather_batch, gather_rows, rank
from faceprint.margins.plain import require, require_choice

Mining = Literal["batch_hard", "semi_hard"]


class _Anchors(NamedTuple):
    """Of each anchor (A,), float32: the sum of its losses and the number of its triplets, the sum and number of the
    cosines with its own identity's images and the lowest of them, whether the nearest image is one of those, and the
    length of its embedding."""

    loss: Tensor
    triplets: Tensor
    own_cosine: Tensor
    positives: Tensor
    lowest: Tensor
    right: Tensor
    length: Tensor


class TripletLoss(nn.Module):
    """mean(max(0, d(a, p) - d(a, n) + m)) over triplets of anchor, positive (same identity) and negative (another).

    d is the squared Euclidean distance of L2-normalised embeddings, 0..4 (Schroff et al., arXiv 1503.03832, section
    3.1); 0 <= `margin` m <= 4. `mining` chooses the triplets:
    - "batch_hard": an anchor's farthest positive and nearest negative (Hermans et al., arXiv 1703.07737, section 2;
      **squared distances, because the gradient of plain ones has no bound at 0**);
    - "semi_hard": for each anchor and positive the nearest negative that is farther than the positive (section 3.2 of
      1503.03832); where there is none, the farthest negative.

    Batches must hold several images of an identity: `sampler.name: pk`. Where there are several processes, embeddings
    are gathered: the anchors of a process are its own images, positives and negatives come from all. The loss is that
    of the whole batch, the same in every process, and so are the gradients (after DistributedDataParallel's average).
    Raises `UserError` outside these ranges.
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
            unit, everybody = gather_batch(functional.normalize(embeddings)), gather_batch(labels)
            own = _own_rows(labels)
            cosine = unit[own] @ unit.T
            distances = (2.0 - 2.0 * cosine).clamp_min(0.0)
            same = labels.unsqueeze(1) == everybody
            others = own.unsqueeze(1) != torch.arange(len(everybody), device=labels.device)
            mine = batch_hard if self.mining == "batch_hard" else semi_hard
            near, far, valid = mine(distances, same & others, ~same)
            losses = functional.relu(near - far + self.margin).where(valid, 0.0)
            found = _anchors(losses, valid, cosine, same & others, others, embeddings)
            whole = _Anchors(*gather_batch(torch.stack(found, 1).detach()).unbind(1))
            count = whole.triplets.sum().clamp_min(1)
            part = found.loss.sum() / count
            # The value is that of all processes' parts, the gradient that of this one's: gathering adds them up.
            return part + (whole.loss.sum() / count - part.detach()), _describe(whole)


def batch_hard(distances: Tensor, positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distances and masks (A, B) of anchors and the batch -> each anchor's farthest positive, nearest negative, and
    whether it has both (A, 1)."""
    farthest = distances.where(positives, 0.0).amax(1, keepdim=True)
    nearest = distances.where(negatives, torch.inf).amin(1, keepdim=True)
    return farthest, nearest, positives.any(1, keepdim=True) & negatives.any(1, keepdim=True)


def semi_hard(distances: Tensor, positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distances and masks (A, B) of anchors and the batch -> for each pair (A, B): its distance, that of its negative,
    and whether it counts.

    Works on the sorted negatives of each anchor, so nothing of size A x B² is made.
    """
    ordered = distances.where(negatives, torch.inf).sort(1).values
    count = negatives.sum(1, keepdim=True)
    first_beyond = torch.searchsorted(ordered.detach(), distances.detach(), right=True)
    chosen = ordered.gather(1, torch.minimum(first_beyond, count - 1).clamp_min(0))
    return distances, chosen, positives & (count > 0)


def _own_rows(labels: Tensor) -> Tensor:
    """The places (B_i,) of this process's `labels` in the batch of all processes."""
    sizes = gather_rows(torch.tensor(len(labels), device=labels.device))
    return torch.arange(len(labels), device=labels.device) + sizes[: rank()].sum()


def _anchors(
    losses: Tensor, valid: Tensor, cosine: Tensor, positives: Tensor, others: Tensor, embeddings: Tensor
) -> _Anchors:
    nearest = cosine.where(others, -torch.inf).argmax(1, keepdim=True)
    return _Anchors(
        losses.sum(1),
        valid.sum(1).float(),
        cosine.where(positives, 0.0).sum(1),
        positives.sum(1).float(),
        cosine.where(positives, 1.0).amin(1),
        positives.gather(1, nearest).squeeze(1).float(),
        embeddings.norm(dim=1),
    )


def _describe(anchors: _Anchors) -> BatchStatistics:
    own = anchors.own_cosine.sum() / anchors.positives.sum().clamp_min(1)
    return BatchStatistics(own, anchors.lowest.amin(), anchors.right.mean(), anchors.length.mean())
