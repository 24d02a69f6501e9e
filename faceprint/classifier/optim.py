"""Optimisers of class centres that read and write the sampled rows only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceprint.errors import UserError

if TYPE_CHECKING:
    from faceprint.classifier.partial_fc import PartialFC

ROWS = 2048
"""Rows updated at a time, so that what is between stays in the cache."""
PRUNE_EVERY = 64
BETA2, EPS = 0.999, 1e-8


class CentreOptimizer(torch.optim.Optimizer):
    """SGD with momentum, or AdamW whose first beta is `momentum`, over the centres of a `PartialFC`.

    `update` "sampled" is Partial FC's: rows that were not sampled keep centre and momentum as they are. "dense" is
    exactly SGD over all rows, of which those not sampled have a zero gradient: their momentum and weight decay are
    made up for, in closed form, when a row is next read. It is for SGD only: AdamW's has no closed form.
    `state` "bf16" keeps momentum in half the memory, rounded stochastically.

    A bias and the margin's own parameters are updated by the same rule, all of them, each step. `flush()` brings all
    rows up to date; `state_dict` calls it. Raises `UserError` for what is not one of these.
    """

    def __init__(
        self,
        classifier: PartialFC,
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        name: Literal["sgd", "adamw"] = "sgd",
        update: Literal["sampled", "dense"] = "sampled",
        state: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        if update == "dense" and name != "sgd":
            raise UserError("update=dense is for SGD only: rows left out by AdamW cannot be made up for in closed form")
        bias = [] if classifier.bias is None else [classifier.bias]
        others = [*bias, *classifier.margin.parameters()]
        super().__init__(
            [{"params": [classifier.centres]}, *([{"params": others}] if others else [])],
            {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "steps": 0},
        )
        self.classifier = classifier
        self.name = name
        centres = classifier.centres
        kind = torch.bfloat16 if state == "bf16" else torch.float32
        moments = {"momentum": torch.zeros(centres.shape, dtype=kind, device=centres.device)}
        if name == "adamw":
            moments["square"] = torch.zeros(centres.shape, dtype=kind, device=centres.device)
            moments["row_steps"] = torch.zeros(len(centres), dtype=torch.int32, device=centres.device)
        self.state[centres] = moments
        self.lag = Lag(len(centres)) if update == "dense" and classifier.sample_rate < 1 else None
        """Of `update` "dense": which rows are behind."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update the rows that have gradients since the last step. Without any there was none for this classifier."""
        assert closure is None
        centres_group, *other_groups = self.param_groups
        centres = self.classifier.centres
        if centres.grad is None and not self.classifier.gradients:
            return
        if centres.grad is not None:
            self._update(None, centres.grad.float(), centres_group)
        else:
            ((rows, grads),) = self.classifier.gradients
            self._update(rows, grads, centres_group)
            if self.lag is not None:
                self.lag.step(rows, centres_group)
        centres_group["steps"] += 1
        for group in other_groups:
            group["steps"] += 1
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update_whole(parameter, group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        self.classifier.gradients.clear()

    @torch.no_grad()
    def catch_up(self, rows: Tensor | None) -> None:
        """Bring `rows` of the centres (None: all) to where dense SGD would have them by now."""
        if self.lag is None:
            return
        centres, moments = self.classifier.centres, self.state[self.classifier.centres]["momentum"]
        for part in _parts(rows, len(centres)):
            moved = self.lag.since(part)
            if moved is None:
                continue
            speed, new = move(moved.to(centres.device), read(moments, part), read(centres, part))
            store(moments, part, speed)
            store(centres, part, new)

    def flush(self) -> None:
        """Bring all rows up to date."""
        self.catch_up(None)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step needs but the options; tensors are the optimiser's own, not copies."""
        self.flush()
        tensors = [dict(self.state[parameter]) for group in self.param_groups for parameter in group["params"]]
        return {"tensors": tensors, "steps": [group["steps"] for group in self.param_groups]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for parameter, saved in zip(parameters, state_dict["tensors"], strict=True):
            for name, tensor in saved.items():
                own = self.state[parameter].setdefault(name, torch.empty_like(tensor, device=parameter.device))
                own.copy_(tensor)
        for group, steps in zip(self.param_groups, state_dict["steps"], strict=True):
            group["steps"] = steps

    def _update(self, rows: Tensor | None, grads: Tensor, group: dict[str, Any]) -> None:
        centres = self.classifier.centres
        moments = self.state[centres]
        for first in range(0, len(grads), ROWS):
            here: Any = slice(first, min(first + ROWS, len(grads)))
            part = here if rows is None else rows[here]
            weights, grad = read(centres, part), grads[here]
            if self.name == "sgd":
                # v = mu v + g + lambda w; w = w - lr v
                grad = grad.add_(weights, alpha=group["weight_decay"])
                speed = read(moments["momentum"], part).mul_(group["momentum"]).add_(grad)
                store(moments["momentum"], part, speed)
                weights = weights.sub_(speed, alpha=group["lr"])
            else:
                weights = self._adamw(moments, part, weights, grad, group)
            store(centres, part, weights)

    def _adamw(
        self, moments: dict[str, Tensor], part: Any, weights: Tensor, grad: Tensor, group: dict[str, Any]
    ) -> Tensor:
        """Bias corrections count a row's own updates."""
        beta1 = group["momentum"]
        counts = moments["row_steps"][part] + 1
        moments["row_steps"][part] = counts
        mean = read(moments["momentum"], part).lerp_(grad, 1 - beta1)
        square = read(moments["square"], part).mul_(BETA2).addcmul_(grad, grad, value=1 - BETA2)
        store(moments["momentum"], part, mean)
        store(moments["square"], part, square)
        corrected = mean / (1 - beta1 ** counts[:, None])
        scale = (square / (1 - BETA2 ** counts[:, None])).sqrt_().add_(EPS)
        return weights * (1 - group["lr"] * group["weight_decay"]) - group["lr"] * corrected / scale

    def moments(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """What is remembered of a bias or a parameter of the margin."""
        state = self.state[parameter]
        if not state:
            state["momentum"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return state

    def _update_whole(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state, grad = self.moments(parameter), parameter.grad
        assert grad is not None
        if self.name == "sgd":
            grad = grad + group["weight_decay"] * parameter
            state["momentum"].mul_(group["momentum"]).add_(grad)
            parameter.sub_(state["momentum"], alpha=group["lr"])
            return
        beta1, count = group["momentum"], group["steps"]
        state["momentum"].lerp_(grad, 1 - beta1)
        state["square"].mul_(BETA2).addcmul_(grad, grad, value=1 - BETA2)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        scale = (state["square"] / (1 - BETA2**count)).sqrt_().add_(EPS)
        parameter.addcdiv_(state["momentum"] / (1 - beta1**count), scale, value=-group["lr"])


class Lag:
    """How far each row is behind, and the matrix that brings it up to date.

    Without a gradient, SGD maps (v, w) to (mu v + lambda w, w - lr (mu v + lambda w)): a 2 x 2 matrix a step. The
    product of those since a row's last update is kept for each step that some row was last updated at.
    """

    def __init__(self, num_rows: int) -> None:
        self.now = 0
        self.base = 0
        self.last = torch.zeros(num_rows, dtype=torch.int32)
        self.since_step = np.eye(2)[None]  # entry i: from step base + i to now

    def step(self, rows: Tensor, group: dict[str, Any]) -> None:
        momentum, decay, lr = group["momentum"], group["weight_decay"], group["lr"]
        matrix = np.array([[momentum, decay], [-lr * momentum, 1 - lr * decay]])
        self.since_step = np.concatenate([matrix @ self.since_step, np.eye(2)[None]])
        self.now += 1
        self.last[rows.cpu()] = self.now
        if self.now % PRUNE_EVERY == 0:
            oldest = int(self.last.min())
            self.since_step = self.since_step[oldest - self.base :]
            self.base = oldest

    def since(self, rows: Any) -> Tensor | None:
        """(n, 2, 2) float32 matrices from each row's last update to now, and count the rows as updated; None where
        all are up to date."""
        rows = rows if isinstance(rows, slice) else rows.cpu()
        last = self.last[rows].clone()  # a slice is a view
        if bool((last == self.now).all()):
            return None
        self.last[rows] = self.now
        return torch.from_numpy(self.since_step[(last - self.base).numpy()]).float()

    def behind(self) -> Tensor:
        """(num_rows,) int32: by how many steps each row is."""
        return self.now - self.last

    def matrices(self) -> NDArray[np.float64]:
        """(n, 2, 2): the last but k is that of rows k steps behind; as many as any row needs."""
        return self.since_step[int(self.last.min()) - self.base :]

    def take_up(self, behind: Tensor, matrices: NDArray[np.float64]) -> None:
        """Go on from `behind()` and `matrices()` of another one, of which there may be more than rows need."""
        self.now, self.base = len(matrices) - 1, 0
        self.last = self.now - behind
        self.since_step = matrices


def move(since: Tensor, speed: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Momentum and weights (n, D) float32 of rows, as the matrices `since` (n, 2, 2) make them."""
    return (
        since[:, 0, 0, None] * speed + since[:, 0, 1, None] * weights,
        since[:, 1, 0, None] * speed + since[:, 1, 1, None] * weights,
    )


def read(source: Tensor, rows: Any) -> Tensor:
    """Rows of `source` as float32: the tensor's own memory for a slice of float32 rows, a copy otherwise."""
    # index_select is several times quicker than indexing by a tensor.
    return (source[rows] if isinstance(rows, slice) else source.index_select(0, rows)).float()


def store(target: Tensor, rows: Any, values: Tensor) -> None:
    """Write float32 `values` to `rows` of `target`, rounded stochastically where that is bfloat16.

    Rounding to the nearest would lose every update smaller than half a step of bfloat16's 8 bits.
    """
    if target.dtype == torch.bfloat16:
        bits = values.contiguous().view(torch.int32)
        noise = torch.empty_like(bits).random_(0, 1 << 16)
        values = (bits + noise).bitwise_and_(-(1 << 16)).view(torch.float32).to(torch.bfloat16)
    if isinstance(rows, slice):
        if target[rows].data_ptr() != values.data_ptr():  # else it was changed in place
            target[rows] = values
    else:
        target.index_copy_(0, rows, values)


def add_up(pieces: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Rows (S,) of any of the `pieces`, without repetition, and the sums of their gradients (S, D)."""
    if len(pieces) == 1:
        return pieces[0]
    rows, places = torch.cat([rows for rows, _ in pieces]).unique(return_inverse=True)
    total = torch.zeros(len(rows), pieces[0][1].shape[1], device=rows.device)
    for (_, grad), where in zip(pieces, places.split([len(rows) for rows, _ in pieces]), strict=True):
        total.index_add_(0, where, grad)
    return rows, total


def _parts(rows: Tensor | None, count: int) -> Iterator[Any]:
    for first in range(0, count if rows is None else len(rows), ROWS):
        yield slice(first, min(first + ROWS, count)) if rows is None else rows[first : first + ROWS]
