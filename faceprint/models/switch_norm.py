"""Switchable Normalization (Luo et al., arXiv 1806.10779): each layer learns how much IN, LN and BN it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceprint.distributed import world_size
from faceprint.errors import UserError
from faceprint.models.moments import (
    Coefficients,
    move_running,
    normalize,
    over_images,
    pooled,
    shared_batch_norm,
)
from faceprint.models.sparsest_max import sparsest_max

STATISTICS = ("in", "ln", "bn")
"""What a layer mixes, in the order of its logits."""
IN, LN, BN = range(len(STATISTICS))
MOMENTUM = 0.1
"""Share of the new value in running moments: 0.9 of the old, as published."""

APART = 10.0
"""Distance of a decided logit from the others: sparsemax is one-hot from 1 on, and momentum moves them less."""

Moments = tuple[Tensor, Tensor]


class SwitchNorm2d(nn.Module):
    """y = weight (x - mu) / sqrt(var + eps) + bias, mu = sum_k w_k mu_k, var = sum_k w'_k var_k over IN, LN and BN.

    (B, C, H, W) -> the same, in x's dtype. w and w' are the softmax of three learned logits each. The moments of LN
    and BN are averages of IN's, whose variance is the unbiased one over H x W, as in the published code. Evaluation
    takes running BN moments (0.9 of the old value and 0.1 of the new a step).

    With `sync` the BN moments are those of all processes' images together, in the backward pass too; with
    `stat_group` those of so many images, see `moments.over_images`. With `argmax` each softmax is replaced by the
    one-hot vector of its largest logit: only what it chose is computed, and a layer whose choices agree is one plain
    norm. `choose` makes the choice from the logits; it is saved with the weights.

    With `sparsest` SparsestMax takes the place of the softmax: `sharpen` raises its `radius`, saved with the weights,
    until the mixture is the choice. Raises `UserError` with both.
    """

    running_mean: Tensor
    running_var: Tensor
    choice: Tensor
    radius: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        *,
        sync: bool = False,
        stat_group: int | None = None,
        argmax: bool = False,
        sparsest: bool = False,
    ) -> None:
        super().__init__()
        if argmax and sparsest:
            raise UserError("norm options argmax and sparsest: an argmax layer has chosen already; give one of them")
        self.num_features = num_features
        self.eps = eps
        self.momentum = MOMENTUM
        self.sync = sync
        self.stat_group = stat_group
        self.argmax = argmax
        self.sparsest = sparsest
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.mean_logits = nn.Parameter(torch.ones(len(STATISTICS)), requires_grad=not argmax)
        self.var_logits = nn.Parameter(torch.ones(len(STATISTICS)), requires_grad=not argmax)
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.chosen: tuple[int, int] = (BN, BN)
        """What `argmax` chose for mean and variance; kept beside `choice`, whose values may be on a device."""
        if argmax:
            self.register_buffer("choice", torch.tensor(self.chosen, dtype=torch.int8, device="cpu"))
        if sparsest:
            self.register_buffer("radius", torch.zeros(()))

    def choose(self, mean: int, var: int) -> None:
        """Take statistics number `mean` and `var` of `STATISTICS` alone; for a layer made with `argmax`."""
        self.chosen = (mean, var)
        self.choice.copy_(torch.tensor(self.chosen, dtype=torch.int8))

    def shares(self) -> Tensor:
        """What the mean (row 0) and the variance (row 1) take of IN, LN and BN: (2, 3), rows sum to 1."""
        if self.argmax:
            return F.one_hot(torch.tensor(self.chosen), len(STATISTICS)).float()
        return self._weights(torch.stack([self.mean_logits, self.var_logits]).detach().float())

    def plain(self) -> nn.Module:
        """This layer as torch's own for evaluation, sharing its weights, where its choices agree; else itself."""
        if not self.argmax or self.chosen[0] != self.chosen[1]:
            return self
        kind = self.chosen[0]
        if kind == BN:
            layer: Any = nn.BatchNorm2d(self.num_features, self.eps)
            layer.running_mean, layer.running_var = self.running_mean, self.running_var
        elif kind == IN:
            layer = nn.InstanceNorm2d(self.num_features, self.eps, affine=True)
        else:
            layer = nn.GroupNorm(1, self.num_features, self.eps)
        layer.weight, layer.bias = self.weight, self.bias
        return layer.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        if self.argmax and self.chosen[0] == self.chosen[1]:
            return self._alone(x, self.chosen[0])
        return normalize(x, self._coefficients(x), self.weight, self.bias, self.mean_logits, self.var_logits)

    def _alone(self, x: Tensor, kind: int) -> Tensor:
        """The layer as one plain norm."""
        weight, bias = self.weight, self.bias
        if kind == IN:
            return F.instance_norm(x, weight=weight, bias=bias, eps=self.eps)
        if kind == LN:
            return F.group_norm(x, 1, weight, bias, self.eps)
        if self.training and (self.stat_group is not None or (self.sync and world_size() > 1)):
            return shared_batch_norm(x, self)
        return F.batch_norm(
            x, self.running_mean, self.running_var, weight, bias, self.training, self.momentum, self.eps
        )

    def _coefficients(self, x: Tensor) -> Coefficients:
        places = x.shape[2] * x.shape[3]

        def coefficients(
            mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, mean_logits: Tensor, var_logits: Tensor
        ) -> Moments:
            var = var * (places / max(places - 1, 1))
            of_mean, of_var = self._mixture(mean_logits, var_logits)
            used = {*of_mean, *of_var}
            moments: dict[int, Moments] = {IN: (mean, var)}
            if LN in used:
                moments[LN] = pooled(mean, var, 1)
            if BN in used:
                moments[BN] = self._batch_moments(mean, var)
            mixed_mean = sum_of(share * moments[kind][0] for kind, share in of_mean.items())
            mixed_var = sum_of(share * moments[kind][1] for kind, share in of_var.items())
            scale = weight * torch.rsqrt(mixed_var + self.eps)
            scale = scale.expand_as(mean)
            return scale, bias + (mean - mixed_mean) * scale

        return coefficients

    def _mixture(self, mean_logits: Tensor, var_logits: Tensor) -> tuple[Mapping[int, Any], Mapping[int, Any]]:
        """The shares of the statistics that have one, for mean and variance."""
        if self.argmax:
            return {self.chosen[0]: 1.0}, {self.chosen[1]: 1.0}
        return dict(enumerate(self._weights(mean_logits))), dict(enumerate(self._weights(var_logits)))

    def _weights(self, logits: Tensor) -> Tensor:
        return sparsest_max(logits, self.radius) if self.sparsest else logits.softmax(-1)

    def _batch_moments(self, mean: Tensor, var: Tensor) -> Moments:
        if not self.training:
            return self.running_mean[None], self.running_var[None]
        batch_mean, batch_var, _ = over_images(mean, var, stat_group=self.stat_group, sync=self.sync)
        move_running(self, batch_mean, batch_var)
        return batch_mean, batch_var

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        choice = state_dict.get(f"{prefix}choice")
        if self.argmax and isinstance(choice, Tensor) and choice.shape == (2,):
            mean, var = (int(kind) for kind in choice.tolist())
            if not {mean, var} <= {IN, LN, BN}:
                raise ValueError(f"{prefix}choice: {mean}, {var}; statistics are 0 (IN), 1 (LN) and 2 (BN)")
            self.chosen = (mean, var)

    def extra_repr(self) -> str:
        chosen = f", chosen={[STATISTICS[kind] for kind in self.chosen]}" if self.argmax else ""
        return f"{self.num_features}, eps={self.eps}, sync={self.sync}, stat_group={self.stat_group}{chosen}"


class SyncSwitchNorm2d(SwitchNorm2d):
    """`SwitchNorm2d` whose BN moments are averaged over all processes: SN on the concatenated batch."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        *,
        stat_group: int | None = None,
        argmax: bool = False,
        sparsest: bool = False,
    ) -> None:
        super().__init__(num_features, eps, sync=True, stat_group=stat_group, argmax=argmax, sparsest=sparsest)


@torch.no_grad()
def sharpen(layers: Sequence[SwitchNorm2d], radius: float) -> None:
    """Give SparsestMax in `layers` this radius, from 0 to 1; a mixture that is one-hot by then stays as it is."""
    if not layers:
        return
    logits = [logits for layer in layers for logits in (layer.mean_logits, layer.var_logits)]
    rows = torch.stack(tuple(logits))
    shares = sparsest_max(rows, radius)
    decided = (shares > 0).sum(1, keepdim=True) == 1
    for one, row in zip(logits, torch.where(decided, APART * shares, rows), strict=True):
        one.copy_(row)
    for layer in layers:
        layer.radius.fill_(radius)


def sum_of(terms: Any) -> Tensor:
    """Sum of tensors that broadcast against each other."""
    first, *rest = terms
    for term in rest:
        first = first + term
    return first
