"""Cross-entropy over more classes than logits fit in memory: made, margined, summed and differentiated by blocks.

A step keeps nothing of size B x C. The forward pass runs over blocks of class centres and keeps each sample's
log-sum-exp; the backward pass makes each block's logits once more, and with them the gradients of embeddings and
centres. Class centres may be spread over processes: each runs over its own, and sums of B numbers are exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from faceprint.distributed import world_size
from faceprint.margins.plain import Plain

BLOCK = 4096
"""Rows of centres in one block: with their scores they stay in a CPU's cache."""
SMALLEST_NORM = 1e-12


@dataclass(frozen=True)
class Classes:
    """The classes of this process that take part in a step.

    `rows` (S,) are their numbers in this process's shard, sorted; None stands for all of them. `positives` (B,) is
    the place of each sample's own class among them, -1 where it lives in another process. `num_active` counts the
    active classes of all processes.
    """

    rows: Tensor | None
    positives: Tensor
    num_active: int


@dataclass(frozen=True)
class Head:
    """How scores and loss are made: see `PartialFC`. `receive(rows, grad)` takes the gradient of sampled centres."""

    margin: Plain
    sub_centers: int
    label_smoothing: float
    product: torch.dtype
    receive: Callable[[Tensor, Tensor], None]


class Targets(NamedTuple):
    """`score` (B,) against each sample's own class, `cosine` (B,) with it, and `row` (B,), its row or -1."""

    score: Tensor
    cosine: Tensor
    row: Tensor


class Loss(NamedTuple):
    """The mean loss, and the largest score (B,) against a class that is not the sample's own."""

    loss: Tensor
    best_other: Tensor


@torch.no_grad()
def target_scores(x: Tensor, centres: Tensor, bias: Tensor | None, classes: Classes, head: Head) -> Targets:
    """Each sample's score against its own class, wherever that class lives; of several centres the nearest counts."""
    own = (classes.positives >= 0).nonzero().squeeze(1)
    numbers = classes.positives[own]
    if classes.rows is not None:
        numbers = classes.rows[numbers]
    candidates = numbers[:, None] * head.sub_centers + torch.arange(head.sub_centers, device=x.device)
    weights = centres[candidates].float()
    inner = (weights * x[own, None]).sum(2)
    cosine = inner / weights.norm(dim=2).clamp_min(SMALLEST_NORM)
    score = cosine if head.margin.normalized else inner
    if bias is not None:
        score = score + bias[candidates]
    score, nearest = score.max(1)
    cosine = cosine.gather(1, nearest[:, None]).squeeze(1) / x[own].norm(dim=1).clamp_min(SMALLEST_NORM)
    found = x.new_zeros(2, len(x), dtype=torch.float32)
    found[0, own], found[1, own] = score, cosine
    row = torch.full_like(classes.positives, -1)
    row[own] = candidates.gather(1, nearest[:, None]).squeeze(1)
    _sum_over_processes(found)
    return Targets(found[0], found[1], row)


def cross_entropy(
    x: Tensor,
    norms: Tensor,
    centres: Tensor,
    bias: Tensor | None,
    targets: Targets,
    classes: Classes,
    head: Head,
    weights: Tensor | None = None,
) -> Loss:
    """Mean loss of embeddings x (B, D) against the active centres; float32, with gradients by x, norms and centres.

    softmax: log sum_j exp(z_j) - z_y; binary: sum_j softplus(z_j) - z_y, which is the sum of both kinds' binary
    cross-entropies. z are the margin's logits. With smoothing e, z_y becomes (1 - e) z_y + e mean_j z_j. Gradients of
    sampled centres go to `head.receive`, those of all centres to `centres.grad`. `weights` (B,) multiply each sample's
    loss before the mean over B; None: all are 1.
    """
    parameters = list(head.margin.parameters())
    shares = (x.new_ones(len(x)) if weights is None else weights) / len(x)
    loss, best = _CrossEntropy.apply(x, norms, centres, bias, targets, classes, head, shares, *parameters)  # pyright: ignore[reportGeneralTypeIssues]
    return Loss(loss, best)


class _Block(NamedTuple):
    """A stretch of active centres: `weights` (c K, D) as stored, `factors`, the same in the type of products,
    `scores` (B, c K) float32, `inverse` lengths (c K,) or None, `positives` (B,) as in `Classes`, counted from the
    block's first class. `weights` and `factors` are overwritten by the next block."""

    first: int
    weights: Tensor
    factors: Tensor
    scores: Tensor
    inverse: Tensor | None
    positives: Tensor


def _blocks(
    x: Tensor, centres: Tensor, bias: Tensor | None, classes: Classes, head: Head, inverses: list[Tensor]
) -> Iterator[_Block]:
    """`inverses` are the blocks' inverse lengths, filled in the first time and read from then on."""
    subs = head.sub_centers
    count = len(centres) // subs if classes.rows is None else len(classes.rows)
    step = max(1, BLOCK // subs)
    low = x.to(head.product)
    gathered = centres.new_empty(0 if classes.rows is None else min(step, count) * subs, centres.shape[1])
    for number, first in enumerate(range(0, count, step)):
        last = min(first + step, count)
        if classes.rows is None:
            chosen: Any = slice(first * subs, last * subs)
            weights = centres[chosen]
        else:
            chosen = classes.rows[first:last]
            if subs > 1:
                chosen = (chosen[:, None] * subs + torch.arange(subs, device=x.device)).flatten()
            weights = torch.index_select(centres, 0, chosen, out=gathered[: len(chosen)])
        factors = weights.to(head.product)
        scores = (low @ factors.T).float()
        inverse = None
        if head.margin.normalized:
            if number == len(inverses):
                lengths = torch.linalg.vector_norm(weights, dim=1, dtype=torch.float32)
                inverses.append(lengths.clamp_min_(SMALLEST_NORM).reciprocal_())
            inverse = inverses[number]
            scores *= inverse
        if bias is not None:
            scores += bias[chosen]
        inside = (classes.positives >= first) & (classes.positives < last)
        yield _Block(first, weights, factors, scores, inverse, torch.where(inside, classes.positives - first, -1))


def _logits(scores: Tensor, target: Tensor, positives: Tensor, norms: Tensor, head: Head) -> Tensor:
    """Logits (B, c) of a block from its scores (B, c K)."""
    if head.sub_centers > 1:
        scores = scores.unflatten(1, (-1, head.sub_centers)).amax(2)
    return head.margin(scores, target, positives, norms)


def _at(values: Tensor, positives: Tensor) -> Tensor:
    """(B,): values[i, positives[i]], 0 where that is -1."""
    picked = values.gather(1, positives.clamp_min(0)[:, None]).squeeze(1)
    return torch.where(positives >= 0, picked, 0.0)


def _sum_over_processes(values: Tensor) -> Tensor:
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def _max_over_processes(values: Tensor) -> Tensor:
    if world_size() > 1:
        dist.all_reduce(values, dist.ReduceOp.MAX)
    return values


def _slope(logits: Tensor, positives: Tensor, reduced: Tensor, num_active: int, head: Head) -> Tensor:
    """The gradient (B, c) of each sample's loss by its logits of a block; `reduced` (B,) is log sum_j exp(z_j)."""
    smoothing = head.label_smoothing
    slope = (logits - reduced[:, None]).exp_() if head.margin.loss == "softmax" else logits.sigmoid()
    present = (positives >= 0).to(slope.dtype) * (1 - smoothing)
    slope.scatter_add_(1, positives.clamp_min(0)[:, None], -present[:, None])
    return slope.sub_(smoothing / num_active) if smoothing else slope


def _through_product(by_scores: Tensor, block: _Block, x: Tensor, by_x: Tensor, by_weights: Tensor) -> None:
    """From gradients by a block's scores (B, c K) to those by x (B, D), which are added to `by_x`, and by its weights,
    which are put in `by_weights` (c K, D). `x` is in the type of products; the results are float32."""
    along = None
    if block.inverse is not None:
        # score = x.w / |w|; its gradient by w is x / |w| - score w / |w|^2.
        along = (by_scores * block.scores).sum(0) * block.inverse.square()
        by_scores = by_scores * block.inverse
    by_scores = by_scores.to(x.dtype)
    if x.dtype == torch.float32:
        torch.mm(by_scores.T, x, out=by_weights)
        by_x.addmm_(by_scores, block.factors)
    else:
        by_weights.copy_(by_scores.T @ x)
        by_x += by_scores @ block.factors
    if along is not None:
        by_weights.addcmul_(block.weights, along[:, None], value=-1)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        norms: Tensor,
        centres: Tensor,
        bias: Tensor | None,
        targets: Targets,
        classes: Classes,
        head: Head,
        shares: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        softmax = head.margin.loss == "softmax"
        top = x.new_full((len(x),), -torch.inf)
        best_other = top.clone()
        total, own, everything = (torch.zeros_like(top) for _ in range(3))
        inverses: list[Tensor] = []
        for block in _blocks(x, centres, bias, classes, head, inverses):
            logits = _logits(block.scores, targets.score, block.positives, norms, head)
            own += _at(logits, block.positives)
            if head.label_smoothing:
                everything += logits.sum(1)
            if softmax:
                raised = torch.maximum(top, logits.amax(1))
                total = total * (top - raised).exp() + (logits - raised[:, None]).exp_().sum(1)
                top = raised
            else:
                total += F.softplus(logits).sum(1)
            best_other = torch.maximum(best_other, _best_other(block, head))
        if softmax:
            highest = _max_over_processes(top.clone())
            total = _sum_over_processes(total * (top - highest).exp())
            reduced = highest + total.log()
        else:
            reduced = _sum_over_processes(total)
        own, everything = _sum_over_processes(torch.stack([own, everything])).unbind()
        smoothing = head.label_smoothing
        losses = reduced - (1 - smoothing) * own - smoothing / classes.num_active * everything
        loss = (shares * losses).sum()
        ctx.save_for_backward(x, norms, centres, bias, targets.score, targets.row, reduced, shares, *parameters)
        ctx.classes, ctx.head, ctx.inverses = classes, head, inverses
        if head.margin.training:
            head.margin.end(reduced, own)
        best_other = _max_over_processes(best_other)
        ctx.mark_non_differentiable(best_other)
        return loss, best_other

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, norms, centres, bias, target, _, reduced, shares, *parameters = ctx.saved_tensors
        classes, head = ctx.classes, ctx.head
        shares = grads[0] * shares[:, None]
        count = (len(centres) // head.sub_centers if classes.rows is None else len(classes.rows)) * head.sub_centers
        by_x = torch.zeros_like(x)
        by_norms, by_target = torch.zeros_like(norms), torch.zeros_like(target)
        by_parameters = [torch.zeros_like(parameter) for parameter in parameters]
        by_weights = torch.empty(count, x.shape[1], dtype=torch.float32, device=x.device)
        by_bias = None if bias is None else torch.empty(count, dtype=torch.float32, device=x.device)
        low = x.to(head.product)
        for block in _blocks(x, centres, bias, classes, head, ctx.inverses):
            inputs = [tensor.detach().requires_grad_() for tensor in (block.scores, target, norms)]
            with torch.enable_grad():
                logits = _logits(inputs[0], inputs[1], block.positives, inputs[2], head)
            slope = _slope(logits.detach(), block.positives, reduced, classes.num_active, head).mul_(shares)
            found = torch.autograd.grad(logits, [*inputs, *parameters], slope, allow_unused=True)
            by_scores = found[0]
            for total, part in zip((by_target, by_norms, *by_parameters), found[1:], strict=True):
                if part is not None:  # pyright: ignore[reportUnnecessaryComparison] - allow_unused
                    total += part
            here = slice(block.first * head.sub_centers, block.first * head.sub_centers + len(block.weights))
            if by_bias is not None:
                by_bias[here] = by_scores.sum(0)
            _through_product(by_scores, block, low, by_x, by_weights[here])
        _sum_over_processes(by_target)
        for total in by_parameters:
            _sum_over_processes(total)
        _add_targets(ctx, by_target, by_x, by_weights, by_bias)
        if classes.rows is None:
            return by_x, by_norms, by_weights.to(centres.dtype), by_bias, *[None] * 4, *by_parameters
        head.receive(classes.rows, by_weights)
        return by_x, by_norms, None, _spread(by_bias, bias, classes.rows), *[None] * 4, *by_parameters


def _best_other(block: _Block, head: Head) -> Tensor:
    """(B,): the largest score of a block against a class that is not the sample's own. Overwrites the own one's."""
    scores = block.scores
    if head.sub_centers > 1:
        scores = scores.unflatten(1, (-1, head.sub_centers)).amax(2)
    own = (block.positives >= 0)[:, None]
    column = block.positives.clamp_min(0)[:, None]
    return scores.scatter_(1, column, torch.where(own, -torch.inf, scores.gather(1, column))).amax(1)


def _add_targets(ctx: Any, by_target: Tensor, by_x: Tensor, by_weights: Tensor, by_bias: Tensor | None) -> None:
    """Carry the gradient by the target score on to embeddings and centres, in the process that has the centre."""
    x, _, centres, _, target, target_row, *_ = ctx.saved_tensors
    classes, head = ctx.classes, ctx.head
    own = (target_row >= 0).nonzero().squeeze(1)
    rows, slope = target_row[own], by_target[own, None]
    weights = centres[rows].float()
    place = classes.positives[own] * head.sub_centers + rows % head.sub_centers
    by_score_of_x, by_score_of_weights = weights, x[own]
    if head.margin.normalized:
        inverse = weights.norm(dim=1, keepdim=True).clamp_min(SMALLEST_NORM).reciprocal()
        by_score_of_x = weights * inverse
        by_score_of_weights = x[own] * inverse - target[own, None] * weights * inverse.square()
    by_x.index_add_(0, own, slope * by_score_of_x)
    by_weights.index_add_(0, place, slope * by_score_of_weights)
    if by_bias is not None:
        by_bias.index_add_(0, place, slope.squeeze(1))


def _spread(values: Tensor | None, like: Tensor | None, rows: Tensor) -> Tensor | None:
    """`values` of some rows as a gradient of all: only the bias, one number a class, is treated so."""
    if values is None or like is None:
        return None
    return torch.zeros_like(like).index_copy_(0, rows, values)
