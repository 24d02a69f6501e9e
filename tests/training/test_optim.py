from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from faceprint.config import Config
from faceprint.models.norms import mixing_logits
from faceprint.training.optim import make_optimizer
from faceprint.training.setup import build_trainer


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weight_decay_spares_the_undecayed(name: str) -> None:
    decayed, spared = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = make_optimizer(
        name,  # pyright: ignore
        [decayed, spared],
        lr=0.1,
        momentum=0.9,
        weight_decay=0.5,
        undecayed=[spared],
    )
    for weight in (decayed, spared):
        weight.grad = torch.zeros(2)
    optimizer.step()
    assert decayed.lt(1).all()
    assert spared.eq(1).all()


def test_the_mixing_logits_of_a_network_are_spared(tiny: Callable[..., Config]) -> None:
    options = "network.options={norm: sn, units: [1, 1, 1, 1], output: FC}"
    trainer = build_trainer(tiny("network.name=r50", options))
    logits = mixing_logits(trainer.network)
    first, second = trainer.optimizer.param_groups
    assert {id(one) for one in second["params"]} == {id(one) for one in logits}
    assert second["weight_decay"] == 0
    assert first["weight_decay"] > 0
    assert len(build_trainer(tiny()).optimizer.param_groups) == 1
