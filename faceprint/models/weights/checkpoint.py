"""What a file of weights holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from faceprint.data.pixels import InputSpec


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """CPU tensors by their names in the file.

    `eps`: what the file says to stand under the root, by the name of a norm's scale. `input`: the preprocessing that
    the file does itself, None where it does none.
    """

    tensors: Mapping[str, Tensor]
    eps: Mapping[str, float] = field(default_factory=dict[str, float])
    input: InputSpec | None = None
