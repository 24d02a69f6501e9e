"""ElasticFace: a margin drawn anew for every image (Boutros et al., arXiv 2109.09416)."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from faceprint.margins.angle import add_angle
from faceprint.margins.plain import Plain, require, require_choice
from faceprint.margins.target import replace_target

Variant = Literal["arc", "cos"]


class ElasticFace(Plain):
    """logit = s cos(θ + E) ("arc") or s (cos θ - E) ("cos") for the right class, s cos θ for the others (section 3).

    E is drawn from N(`margin`, `std`²) for each image of each step: in radians for "arc", 0 <= margin < π, in units of
    cosine for "cos", margin >= 0; `std` >= 0, `scale` s > 0. The draw is a function of `seed` and the number of steps,
    on any device. `plus` is ElasticFace+, published for "arc" with std 0.0175: the images nearest to their centre get
    the smallest of the batch's margins. **The published code sorts the margins too, but hands them out by the order's
    numbers instead of its ranks; this is the rule of the paper.** The gradient is the true one. Raises `UserError`
    outside these ranges.
    """

    steps: Tensor
    margins: Tensor

    def __init__(
        self,
        scale: float = 64.0,
        margin: float = 0.5,
        std: float = 0.05,
        variant: Variant = "arc",
        plus: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require(
            scale > 0 and margin >= 0 and (variant == "cos" or margin < math.pi) and std >= 0 and seed >= 0,
            'ElasticFace takes scale > 0, margin >= 0 (and < π radians for "arc"), std >= 0 and seed >= 0',
            scale=scale,
            margin=margin,
            std=std,
            seed=seed,
        )
        require_choice("variant of ElasticFace", variant, get_args(Variant))
        self.scale = scale
        self.margin = margin
        self.std = std
        self.variant = variant
        self.plus = plus
        self.seed = seed
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        # Those of the batch at hand; before the first one, the mean for all.
        self.register_buffer("margins", torch.tensor(margin), persistent=False)

    def begin(self, target_cosine: Tensor, norms: Tensor) -> None:
        """Draw the margins of this step's batch."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + int(self.steps)) % 2**63)
        draws = self.margin + self.std * torch.randn(len(norms), generator=generator)
        draws = draws.to(target_cosine.device)
        if self.plus:
            nearest_first = target_cosine.argsort(descending=True, stable=True)
            draws = torch.empty_like(draws).scatter(0, nearest_first, draws.sort().values)
        self.margins = draws
        self.steps += 1

    def forward(self, cosine: Tensor, target_cosine: Tensor, positives: Tensor, norms: Tensor) -> Tensor:
        """See `faceprint.margins`: cosines (B, C) -> logits (B, C)."""
        margins = self.margins.to(target_cosine.dtype)
        changed = add_angle(target_cosine, margins) if self.variant == "arc" else target_cosine - margins
        return self.scale * replace_target(cosine, positives, changed)
