from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from faceprint.config import Config
from faceprint.errors import UserError
from faceprint.models.norms import mixing_logits
from faceprint.training.optim import drop_frozen, make_optimizer, set_learning_rate
from faceprint.training.setup import build_trainer


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weight_decay_spares_the_undecayed(name: str) -> None:
    decayed, spared = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = make_optimizer(
        name,  # pyright: ignore
        torch.nn.ParameterList([decayed, spared]),
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


def test_parts_of_a_network_have_rates_of_their_own(tiny: Callable[..., Config]) -> None:
    """The last pattern counts; a weight frozen by 0 stays as it is, without momentum, until it thaws."""
    network = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(3)))
    factors = {"0.*": 0.1, "0.bias": 0.5, "1.*": 0.0}
    optimizer = make_optimizer("sgd", network, lr=1.0, momentum=0.9, weight_decay=0.0, lr_factors=factors)
    before = {name: value.clone() for name, value in network.named_parameters()}

    def step(thawed: bool) -> dict[str, float]:
        set_learning_rate(optimizer, 0.5, thawed=thawed)
        for weight in network.parameters():
            weight.grad = torch.ones_like(weight)
        drop_frozen(optimizer)
        optimizer.step()
        return {name: float((before[name] - value).mean()) for name, value in network.named_parameters()}

    expected = {"0.weight": 0.05, "0.bias": 0.25, "1.weight": 0.0, "1.bias": 0.0, "2.weight": 0.5, "2.bias": 0.5}
    assert step(thawed=False) == pytest.approx(expected)
    assert step(thawed=True)["1.weight"] == pytest.approx(0.5)
    with pytest.raises(UserError, match=r"matches '9\.\*'"):
        make_optimizer("sgd", network, lr=1.0, momentum=0.9, weight_decay=0.0, lr_factors={"9.*": 1.0})
