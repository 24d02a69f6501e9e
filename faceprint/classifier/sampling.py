"""Which classes take part in a step: the batch's own, always, and a uniform draw of the others."""

from __future__ import annotations

import torch
from torch import Tensor


def sample_rows(positives: Tensor, num_rows: int, budget: int, generator: torch.Generator) -> Tensor:
    """Sorted, distinct rows (S,) of 0 .. num_rows - 1: all `positives`, and a uniform subset of the rest.

    `positives` (P,) int64, sorted and distinct. S is `budget`, or P where that is more, and never above `num_rows`.
    Costs O(S log S) time and memory, however many rows there are; a draw of more than half of the rest costs O(rows).
    """
    rest = num_rows - len(positives)
    wanted = min(max(budget - len(positives), 0), rest)
    drawn = _subset(rest, wanted, generator)
    # Number k of the rest is row k + (positives before it), counted where they stand among the rest.
    before = torch.searchsorted(positives - torch.arange(len(positives)), drawn, right=True)
    return torch.cat([positives, drawn + before]).sort().values


def _subset(size: int, wanted: int, generator: torch.Generator) -> Tensor:
    """A uniform subset of 0 .. size - 1 with `wanted` members, sorted."""
    if wanted == 0:
        return torch.empty(0, dtype=torch.int64)
    if 2 * wanted > size:
        left_out = _subset(size, size - wanted, generator)
        kept = torch.ones(size, dtype=torch.bool)
        kept[left_out] = False
        return kept.nonzero().squeeze(1)
    found = torch.empty(0, dtype=torch.int64)
    while len(found) < wanted:
        missing = wanted - len(found)
        draws = torch.randint(size, (missing + missing // 4 + 16,), generator=generator)
        found = torch.cat([found, draws]).unique()
    # By symmetry, the distinct values of independent draws are a uniform subset of their number, and any of them drawn
    # from those are so too.
    return found[torch.randperm(len(found), generator=generator)[:wanted]].sort().values
