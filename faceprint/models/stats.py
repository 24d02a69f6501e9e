"""How large a network is and what one image costs, without allocating a weight or computing a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from faceprint.models import create_model
from faceprint.models.network import FaceNetwork


@dataclass(frozen=True)
class Summary:
    """The size of a network: see the functions of the same names."""

    parameters: int
    state_bytes: int
    flops: int
    embedding_dim: int


def parameters(model: nn.Module) -> int:
    """Number of parameters, those that are not trained (a fixed scale) included; a shared one counts once."""
    return sum(weight.numel() for weight in model.parameters())


def state_bytes(model: nn.Module) -> int:
    """Bytes of the state in float32: parameters and buffers, as a file of weights holds them; integers as they are."""
    return sum(
        value.numel() * (4 if value.is_floating_point() else value.element_size())
        for value in model.state_dict().values()
    )


def flops(model: FaceNetwork) -> int:
    """Multiply-adds of one image through `model` as it evaluates: of convolutions, linear layers and attention.

    **A multiplication and its addition are one**, as in the tables of this field, which call them FLOPs (r50: 6.3 G).
    Norms, activations and pooling are not counted. `model` may be on any device, the meta device too; nothing is
    computed, its weights are not read and its modes stay as they are.
    """
    training = [module for module in model.modules() if module.training]
    counter = FlopCounterMode(display=False)
    # Of the forms of attention, the counter knows the plain one on every device: two matrix products.
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        # Weights on a fake CPU: autocast, which some layers switch off for themselves, knows no meta device. Nobody
        # reads their values, so that one tensor does for all of a shape.
        make = cache(lambda shape, dtype: torch.empty(shape, dtype=dtype))
        fake = {
            name: make(value.shape, value.dtype)
            for values in (model.named_parameters(), model.named_buffers())
            for name, value in values
        }
        model.eval()
        try:
            with counter:
                functional_call(model, fake, (torch.empty(1, 3, *model.image_size),))
        finally:
            for module in training:
                module.training = True
    # PyTorch's counter takes a multiply-add as two operations.
    return counter.get_total_flops() // 2


def summary(
    name: str, *, embedding_dim: int | None = None, image_size: tuple[int, int] = (112, 112), **options: Any
) -> Summary:
    """The size of `create_model(name, …)`, which is built on the meta device. Raises `UserError` as that does."""
    with torch.device("meta"):
        model = create_model(name, embedding_dim=embedding_dim, image_size=image_size, **options)
    return Summary(parameters(model), state_bytes(model), flops(model), model.embedding_dim)
