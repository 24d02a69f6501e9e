"""What stands under the root beside the variance, where two code bases differ in it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn

from faceprint.errors import UserError


def norms(network: nn.Module) -> dict[str, float]:
    """Name of each norm -> its eps."""
    found = ((name, getattr(module, "eps", None)) for name, module in network.named_modules())
    return {name: eps for name, eps in found if isinstance(eps, float)}


def moved_variances(
    state: Mapping[str, Tensor], before: Mapping[str, float | None], after: Mapping[str, float]
) -> dict[str, Tensor]:
    """`state`, whose norms have the eps `before`, for a network whose norms have `after`: variance + eps stays.

    None is an eps that nothing is known of, and is left alone. Raises `UserError` where a norm uses another variance
    than the running one, so that no shift makes up for the difference.
    """
    moved = dict(state)
    for norm, eps in after.items():
        old, variance = before.get(norm), f"{norm}.running_var"
        if old is None or math.isclose(old, eps, rel_tol=1e-6) or f"{norm}.weight" not in state:
            continue
        if variance not in state or f"{norm}.mean_logits" in state:
            raise UserError(f"{norm} has eps {eps:g}, the weights are for {old:g}; build the network with eps={old:g}")
        moved[variance] = state[variance] + (old - eps)
    return moved
