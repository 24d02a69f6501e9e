"""The angle behind a cosine, safe in float32 at cos θ = ±1 and where rounding goes beyond."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MIN_SQUARED_SINE = 1e-7
"""About the resolution of 1 - cos² in float32; below it the sine is noise and its gradient 1/sin θ without bound."""


def sine(cosine: Tensor) -> Tensor:
    """sin θ of any shape for θ in 0..π, with sin² θ held above 1e-7."""
    return (1.0 - cosine.square()).clamp_min(MIN_SQUARED_SINE).sqrt()


def angle(cosine: Tensor) -> Tensor:
    """θ of any shape, within 3.2e-4 .. π - 3.2e-4, with the gradient -1 / sin θ everywhere (sin² θ held above 1e-7).

    Holding the sine in the gradient too, instead of cutting it off, keeps d cos(mθ) / d cos θ at its limit m² where
    θ is 0. There is no second derivative.
    """
    fixed = cosine.detach()
    held = sine(fixed)
    return torch.atan2(held, fixed) + (fixed - cosine) / held


def add_angle(cosine: Tensor, radians: float | Tensor) -> Tensor:
    """cos(θ + m) = cos θ cos m - sin θ sin m; `radians` m is one number or (B,) beside `cosine` (B,)."""
    if not isinstance(radians, Tensor):
        return cosine * math.cos(radians) - sine(cosine) * math.sin(radians)
    return cosine * radians.cos() - sine(cosine) * radians.sin()


def multiply_angle(cosine: Tensor, times: int) -> Tensor:
    """cos(mθ) for whole m >= 1: the Chebyshev polynomial T_m(cos θ), smooth at and beyond ±1."""
    previous, current = torch.ones_like(cosine), cosine
    for _ in range(times - 1):
        previous, current = current, 2.0 * cosine * current - previous
    return current
