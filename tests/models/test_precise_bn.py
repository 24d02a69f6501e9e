from __future__ import annotations

import pytest
import torch
from torch import nn

from faceprint.errors import UserError
from faceprint.models.norms import SwitchNorm2d
from faceprint.models.precise_bn import precise_bn


def test_moments_are_those_of_all_the_data_together() -> None:
    torch.manual_seed(0)
    data = torch.randn(24, 3, 6, 6) * torch.rand(24, 1, 1, 1) + torch.randn(24, 1, 1, 1)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), SwitchNorm2d(4)).eval()
    for logits in (model[3].mean_logits, model[3].var_logits):
        logits.data = torch.tensor([0.0, 0.0, 30.0])
    before = [weight.clone() for weight in model.parameters()]
    assert precise_bn(model, data.split(4)) == 6
    maps = model[0](data)
    values = maps.transpose(0, 1).flatten(1)
    assert torch.allclose(model[1].running_mean, values.mean(1), atol=1e-5)
    # Batch variances are unbiased over 4 x 16 values each.
    biased = torch.stack([part.transpose(0, 1).flatten(1).var(1, correction=0) for part in maps.split(4)])
    pooled = values.var(1, correction=0) + biased.mean(0) / 63
    assert torch.allclose(model[1].running_var, pooled, rtol=1e-4)
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
    assert not model.training
    assert model[1].momentum == model[3].momentum == 0.1


def test_no_data_is_an_error_and_changes_nothing() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2)).train()
    with pytest.raises(UserError, match="at least one batch"):
        precise_bn(model, [])
    assert model[0].running_mean.eq(0).all()
    assert model.training
