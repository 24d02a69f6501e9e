"""SparsestMax (Shao et al., arXiv 1903.03793): from a mixture to a choice by a radius that grows.

Between sparsemax, at radius 0, and the one-hot vector of the largest logit, from the circumscribed radius
sqrt(1 - 1/K) on. **Deviations from the published code: it clips the logits' gradients at 1, its running moments move by
0.003 a step, and its last version measures from the centre of the face that sparsemax falls on, which makes a share
that reaches 0 move the others by a jump.**
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_TINY = 1e-20


def sparsemax(logits: Tensor) -> Tensor:
    """The point of the simplex nearest to `logits` (…, K): max(logits - t, 0), whose sum is 1 (arXiv 1602.02068)."""
    ordered = logits.sort(-1, descending=True).values
    total = ordered.cumsum(-1)
    ranks = torch.arange(1, logits.shape[-1] + 1, device=logits.device)
    size = (1 + ranks * ordered > total).sum(-1, keepdim=True)
    return (logits - (total.gather(-1, size - 1) - 1) / size).clamp_min(0)


def sparsest_max(logits: Tensor, radius: Tensor | float) -> Tensor:
    """The point of the simplex nearest to sparsemax of `logits` (…, K) that is `radius` or more from the centre, 1/K.

    A point that would lie outside of the simplex is sought on the smaller face that is nearest, at what is left of the
    radius there. In a tie the first logit goes ahead.
    """
    point = sparsemax(logits)
    centre = torch.full_like(point, 1 / logits.shape[-1])
    squared = torch.as_tensor(radius, dtype=logits.dtype, device=logits.device) ** 2
    for _ in range(logits.shape[-1] - 1):  # every round ends on the face it began on, or a smaller one
        face = _centre(point)
        left = (squared - (face - centre).square().sum(-1, keepdim=True)).clamp_min(0).sqrt()
        point = sparsemax(_pushed(point, face, left))
    return point


def _centre(point: Tensor) -> Tensor:
    on = (point > 0).to(point.dtype)
    return on / on.sum(-1, keepdim=True)


def _pushed(point: Tensor, centre: Tensor, radius: Tensor) -> Tensor:
    """`point` moved away from `centre` to the distance `radius`, unless it is as far already."""
    away = point - centre
    first = F.one_hot(point.argmax(-1), point.shape[-1]) - centre
    away = torch.where(away.square().sum(-1, keepdim=True) > _TINY, away, first)
    distance = away.square().sum(-1, keepdim=True).clamp_min(_TINY).sqrt()
    return torch.where((point - centre).norm(dim=-1, keepdim=True) < radius, centre + away * (radius / distance), point)
