"""Several sets of classes, each with centres of its own: a sample is compared with the classes of its own set alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from faceprint.classifier.optim import CentreOptimizer
from faceprint.classifier.partial_fc import BatchStatistics, PartialFC
from faceprint.distributed import world_size


class Heads(nn.Module):
    """The mean, over all samples of a batch, of the loss that the head of each gives.

    Head h has the labels from the sum of `num_classes` of those before it on. With B_h samples of head h in the batch
    of all processes, the loss is sum_h (B_h / B) loss_h, and a head without samples takes no part: neither its centres
    nor its optimiser's state change. Every process calls the same heads, so that their collectives meet.
    """

    ends: Tensor

    def __init__(self, heads: Sequence[PartialFC]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        ends = torch.tensor([head.num_classes for head in heads]).cumsum(0)
        self.register_buffer("ends", ends, persistent=False)

    def __iter__(self) -> Any:
        return iter(self.heads)

    def named_heads(self) -> Iterator[tuple[str, PartialFC]]:
        """Each head with what the names of its state begin with."""
        return ((f"heads.{number}.", head) for number, head in enumerate(self))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Raw embeddings (B, D) of any float type, labels (B,) int64 over all heads -> mean loss, a float32 scalar.

        Raises `UserError` for labels that no head has (on a GPU: an assertion there).
        """
        return self.measure(embeddings, labels)[0]

    def measure(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, BatchStatistics]:
        """As `forward`, with the statistics of the batch beside the loss: means over samples, sums over classes."""
        # A label beyond the last head goes to it, which refuses it.
        which = torch.bucketize(labels, self.ends, right=True).clamp_max(len(self.heads) - 1)
        counts = which.bincount(minlength=len(self.heads))
        if world_size() > 1:
            dist.all_reduce(counts)
        starts = [0, *self.ends.tolist()]
        sizes = counts.tolist()
        losses: list[Tensor] = []
        seen: list[BatchStatistics] = []
        shares: list[float] = []
        for number, head in enumerate(self.heads):
            if not sizes[number]:
                continue
            mine = which == number
            loss, statistics = cast(PartialFC, head).measure(embeddings[mine], labels[mine] - starts[number])
            shares.append(sizes[number] / sum(sizes))
            losses.append(shares[-1] * loss)
            seen.append(statistics)
        return torch.stack(losses).sum(), _together(seen, shares)

    def make_optimizer(
        self, lr: float, momentum: float = 0.9, weight_decay: float = 5e-4, **options: Any
    ) -> HeadOptimizers:
        """An optimiser for each head, used as one; the arguments are those of `PartialFC.make_optimizer`."""
        heads = (cast(PartialFC, head) for head in self.heads)
        return HeadOptimizers([head.make_optimizer(lr, momentum, weight_decay, **options) for head in heads])


class HeadOptimizers:
    """The optimisers of several heads, with the methods of one."""

    def __init__(self, optimizers: Sequence[CentreOptimizer]) -> None:
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        return {"heads": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, state_dict["heads"], strict=True):
            optimizer.load_state_dict(state)


def _together(parts: Sequence[BatchStatistics], shares: Sequence[float]) -> BatchStatistics:
    def mean(values: Sequence[Tensor]) -> Tensor:
        return torch.stack([share * value for share, value in zip(shares, values, strict=True)]).sum()

    return BatchStatistics(
        target_cosine=mean([part.target_cosine for part in parts]),
        lowest_cosine=torch.stack([part.lowest_cosine for part in parts]).min(),
        accuracy=mean([part.accuracy for part in parts]),
        embedding_norm=mean([part.embedding_norm for part in parts]),
        active_classes=sum(part.active_classes for part in parts),
        positives=sum(part.positives for part in parts),
    )
