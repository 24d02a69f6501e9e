"""Class centres and the loss over them: Partial FC (An et al., arXiv 2010.05222, 2203.15565)."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from faceprint.classifier.cross_entropy import Classes, Head, cross_entropy, target_scores
from faceprint.classifier.optim import CentreOptimizer, add_up
from faceprint.classifier.sampling import sample_rows
from faceprint.distributed import gather_batch, rank, world_size
from faceprint.errors import UserError
from faceprint.margins.plain import Plain

INIT_STD = 0.01
INIT_ROWS = 1 << 12
"""Centres are drawn so many at a time, each time from a seed of its own: any process can draw its part alone."""
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class BatchStatistics(NamedTuple):
    """What a batch looked like before the margin changed it: scalars, detached, on the batch's device."""

    target_cosine: Tensor
    """Mean cosine between an embedding and the centre of its own class."""
    lowest_cosine: Tensor
    """The lowest of those cosines: of an image that may have a wrong label."""
    accuracy: Tensor
    """Share of the batch whose own class scores highest of the active ones, without margin, in [0, 1]."""
    embedding_norm: Tensor
    """Mean length of the raw embeddings."""
    active_classes: float = 0.0
    """Number of classes that took part, over all processes; 0 for a loss without classes."""
    positives: float = 0.0
    """Number of those that are in the batch."""
    cosines: tuple[Tensor, Tensor] | None = None
    """Of each image (B,): with its own class, and with the most similar other one; None where there are none."""


class PartialFC(nn.Module):
    """The loss of embeddings against `num_classes` class centres, of which a part takes part in each step.

    `margin` decides what centres are compared by (cosines, or inner products with a bias: `Softmax`) and how the loss
    sums them up. With `sample_rate` r below 1 a step compares with a share r of the centres: all classes of the batch,
    and a uniform draw of the others, a function of seed and step alone. r = 1 is the plain softmax over all classes.
    Where there are several processes each holds a range of the classes (`first_class`, `num_local`), and embeddings
    are gathered; the loss is the mean over the whole batch, the same in every process, and the gradients are those of
    one process on the whole batch (for embeddings: after DistributedDataParallel's average).

    `sub_centers` K gives each class K centres, of which the nearest counts (sub-center ArcFace). `label_smoothing` e
    puts e of the weight evenly on the active classes. `centres` "bf16" stores centres in half the memory, rounded
    stochastically; `product` "bf16" makes the products with centres in bfloat16, each result rounded to it; a sample's
    score against its own class stays float32. `class_weights` (C,) float multiply the loss of each sample by its own
    class's (see `weighting.py`); they are options, not state.
    Margin, softmax and loss are float32 always. Nothing of size batch x classes is stored, nor, with r below 1, of
    size classes x dimensions beside centres and momentum: see `cross_entropy.py`.

    Sampled centres have no `.grad`: train them by `make_optimizer`, which reads and writes the sampled rows only.
    Centres start from N(0, 0.01), drawn from torch's seed, the same for any number of processes.
    """

    draws: Tensor
    class_weights: Tensor | None

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        margin: Plain,
        sample_rate: float = 1.0,
        *,
        sub_centers: int = 1,
        label_smoothing: float = 0.0,
        centres: Literal["fp32", "bf16"] = "fp32",
        product: Literal["fp32", "bf16"] = "fp32",
        same_for_any_world: bool = False,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise UserError(f"a classifier needs at least 2 identities, got {num_classes}")
        if not 0 < sample_rate <= 1:
            raise UserError(f"sample_rate {sample_rate}: the share of classes in a step lies in (0, 1]")
        if sub_centers < 1:
            raise UserError(f"sub_centers {sub_centers}: each class has at least 1 centre")
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing {label_smoothing}: lies in [0, 1)")
        if class_weights is not None and class_weights.shape != (num_classes,):
            raise UserError(f"class_weights {tuple(class_weights.shape)}: one a class, ({num_classes},)")
        if num_classes < world_size():
            raise UserError(f"{num_classes} identities cannot be spread over {world_size()} processes")
        self.embedding_dim = embedding_dim
        self.num_classes = num_classes
        self.margin = margin
        self.sample_rate = sample_rate
        self.sub_centers = sub_centers
        self.label_smoothing = label_smoothing
        self.product = TYPES[product]
        self.same_for_any_world = same_for_any_world
        self.first_class, last = class_range(num_classes, rank(), world_size())
        self.num_local = last - self.first_class
        self.seed = int(torch.randint(2**31, ()))
        rows = (self.first_class * sub_centers, last * sub_centers)
        weights = _initial(self.seed, *rows, num_classes * sub_centers, embedding_dim, TYPES[centres])
        self.centres = nn.Parameter(weights, requires_grad=sample_rate == 1)
        self.bias = None if margin.normalized else nn.Parameter(torch.zeros(self.num_local * sub_centers))
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64, device="cpu"))
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.gradients: list[tuple[Tensor, Tensor]] = []
        """Of sampled centres since the last step: rows (S K,) of `centres` and their gradients (S K, D) float32. One
        pair, the sum over all passes since then; none before the first."""
        self._optimizer: CentreOptimizer | None = None

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Raw embeddings (B, D) of any float type, labels (B,) int64 -> mean loss, a float32 scalar.

        Raises `UserError` for labels outside 0 .. num_classes - 1 (on a GPU: an assertion there).
        """
        return self.measure(embeddings, labels)[0]

    def measure(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, BatchStatistics]:
        """As `forward`, with the statistics of the batch beside the loss."""
        if torch.compiler.is_compiling():
            # Left as it is: the loop over blocks would be unrolled, and the draws traced.
            return torch.compiler.disable(self._measure)(embeddings, labels)  # pyright: ignore[reportCallIssue]
        return self._measure(embeddings, labels)

    def _measure(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, BatchStatistics]:
        self._check(labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = gather_batch(embeddings.float())
            labels = gather_batch(labels)
            norms = embeddings.norm(dim=1)
            x = F.normalize(embeddings) if self.margin.normalized else embeddings
            classes, positives = self._choose(labels)
            head = Head(self.margin, self.sub_centers, self.label_smoothing, self.product, self._receive)
            targets = target_scores(x, self.centres, self.bias, classes, head)
            if self.training:
                self.margin.begin(targets.score, norms.detach())
            weights = None if self.class_weights is None else self.class_weights[labels]
            loss, best_other = cross_entropy(x, norms, self.centres, self.bias, targets, classes, head, weights)
            penalty = self.margin.penalty(norms)
            # Each process's gradient by the norms is summed up: the penalty's must come from one of them.
            loss = loss + (penalty if rank() == 0 else penalty.detach())
            return loss, BatchStatistics(
                targets.cosine.mean(),
                targets.cosine.min(),
                (targets.score >= best_other).float().mean(),
                norms.detach().mean(),
                classes.num_active,
                positives,
                (targets.cosine.detach(), best_other.detach()) if self.margin.normalized else None,
            )

    def make_optimizer(
        self, lr: float, momentum: float = 0.9, weight_decay: float = 5e-4, **options: Any
    ) -> CentreOptimizer:
        """The optimiser of the centres (and bias, and the margin's own parameters), see `CentreOptimizer`."""
        self._optimizer = CentreOptimizer(self, lr, momentum=momentum, weight_decay=weight_decay, **options)
        return self._optimizer

    def _check(self, labels: Tensor) -> None:
        outside = (labels < 0) | (labels >= self.num_classes)
        if labels.device.type == "cuda":  # MPS has no such assertion before torch 2.14
            # Without waiting for the device.
            torch.ops.aten._assert_async.msg(~outside.any(), "a label is outside the classes")
        elif outside.any():
            place = int(outside.nonzero()[0])
            raise UserError(
                f"label {int(labels[place])} of sample {place} in the batch: labels lie in 0 .. {self.num_classes - 1};"
                " num_classes must be the number of identities in the data"
            )

    def _receive(self, rows: Tensor, grad: Tensor) -> None:
        self.gradients = [add_up([*self.gradients, (self._rows_of(rows), grad)])]

    def _rows_of(self, classes: Tensor) -> Tensor:
        if self.sub_centers == 1:
            return classes
        return (classes[:, None] * self.sub_centers + torch.arange(self.sub_centers, device=classes.device)).flatten()

    def _choose(self, labels: Tensor) -> tuple[Classes, int]:
        """The active classes of this process, and how many distinct classes are in the batch."""
        distinct = labels.unique()
        mine = labels - self.first_class
        inside = (mine >= 0) & (mine < self.num_local)
        if self.sample_rate == 1 or not self.training:
            if self._optimizer is not None:
                self._optimizer.catch_up(None)
            return Classes(None, torch.where(inside, mine, -1), self.num_classes), len(distinct)
        rows = self._draw((distinct - self.first_class).cpu()).to(labels.device)
        self.draws += 1
        if self._optimizer is not None:
            self._optimizer.catch_up(self._rows_of(rows))
        places = torch.searchsorted(rows, mine)
        active = torch.tensor(len(rows), device=labels.device)
        if world_size() > 1:
            dist.all_reduce(active)
        return Classes(rows, torch.where(inside, places, -1), int(active)), len(distinct)

    def _draw(self, positives: Tensor) -> Tensor:
        """Rows of this process's classes for this step; `positives` are counted from `first_class`, some outside."""
        generator = torch.Generator()
        step = int(self.draws)
        if self.same_for_any_world:
            generator.manual_seed(_mixed(self.seed, step, 0))
            everywhere = positives + self.first_class
            budget = round(self.sample_rate * self.num_classes)
            chosen = sample_rows(everywhere, self.num_classes, budget, generator) - self.first_class
            return chosen[(chosen >= 0) & (chosen < self.num_local)]
        generator.manual_seed(_mixed(self.seed, step, rank()))
        own = positives[(positives >= 0) & (positives < self.num_local)]
        return sample_rows(own, self.num_local, round(self.sample_rate * self.num_local), generator)


def class_range(num_classes: int, number: int, processes: int) -> tuple[int, int]:
    """First class of process `number` and the first of the next: contiguous ranges that differ by one at most."""
    return num_classes * number // processes, num_classes * (number + 1) // processes


def _mixed(*numbers: int) -> int:
    """One seed of several numbers; any change in one gives an unrelated seed."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 6364136223846793005 + number + 1442695040888963407) % 2**64
        mixed ^= mixed >> 29
    return mixed % 2**63


def _initial(seed: int, first: int, last: int, total: int, embedding_dim: int, dtype: torch.dtype) -> Tensor:
    """Rows first .. last - 1 of the `total` centres that `seed` gives, whoever draws them."""
    weights = torch.empty(last - first, embedding_dim, dtype=dtype)
    if weights.device.type == "meta":
        return weights
    for block in range(first // INIT_ROWS, -(-last // INIT_ROWS)):
        generator = torch.Generator().manual_seed(_mixed(seed, block))
        start, stop = block * INIT_ROWS, min((block + 1) * INIT_ROWS, total)
        # Blocks are drawn whole: which values torch draws depends on how many are asked for.
        drawn = torch.empty(stop - start, embedding_dim).normal_(0.0, INIT_STD, generator=generator)
        low, high = max(start, first), min(stop, last)
        weights[low - first : high - first] = drawn[low - start : high - start]
    return weights
