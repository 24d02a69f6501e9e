"""What margins share: the hooks that a margin without state leaves empty, and the check of their arguments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from faceprint.errors import UserError
from faceprint.registry import unknown


class Plain(nn.Module):
    """A margin that compares cosines under softmax and has neither state nor penalty. See `faceprint.margins`."""

    normalized: bool = True
    loss: Literal["softmax", "binary"] = "softmax"

    def begin(self, target_cosine: Tensor, norms: Tensor) -> None:
        """Does nothing."""

    def end(self, log_sum_exp: Tensor, target_logits: Tensor) -> None:
        """Does nothing."""

    def penalty(self, norms: Tensor) -> Tensor:
        """A zero."""
        return norms.new_zeros(())


def require(condition: bool, ranges: str, **given: float) -> None:
    """Raise `UserError` unless `condition` holds and every argument is finite; `ranges` says what is allowed."""
    if not (condition and all(map(math.isfinite, given.values()))):
        raise UserError(f"{ranges}, got {', '.join(f'{name}={value}' for name, value in given.items())}")


def require_choice(kind: str, given: str, allowed: Sequence[str]) -> None:
    """Raise `UserError` for a `given` name that is none of `allowed`; `kind` says what it names."""
    if given not in allowed:
        raise unknown(kind, given, list(allowed))
