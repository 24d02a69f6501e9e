"""Switchable norm against the formula, written out with torch's reductions and differentiated by autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from faceprint.models import create_model
from faceprint.models.norms import Norm, SwitchNorm2d, SyncSwitchNorm2d, mixing_logits, plain_norms


def formula(x: Tensor, norm: SwitchNorm2d, groups: int = 1) -> Tensor:
    """arXiv 1806.10779, equations 1 to 5; unbiased variance over places, as in the published code."""
    images, channels = x.shape[:2]
    places = x.reshape(images, channels, -1)
    mean_in, var_in = places.mean(2), places.var(2)
    square = var_in + mean_in**2
    means, variances = [mean_in], [var_in]
    mean_ln = mean_in.mean(1, keepdim=True)
    means.append(mean_ln.expand_as(mean_in))
    variances.append((square.mean(1, keepdim=True) - mean_ln**2).expand_as(mean_in))
    parts = [(m.mean(0), s.mean(0), len(m)) for m, s in zip(mean_in.chunk(groups), square.chunk(groups), strict=True)]
    means.append(torch.cat([m.expand(n, -1) for m, _, n in parts]))
    variances.append(torch.cat([(s - m**2).expand(n, -1) for m, s, n in parts]))
    mean_share, var_share = norm.mean_logits.softmax(0), norm.var_logits.softmax(0)
    mu = sum(share * mean for share, mean in zip(mean_share, means, strict=True))
    var = sum(share * one for share, one in zip(var_share, variances, strict=True))
    assert isinstance(mu, Tensor)
    assert isinstance(var, Tensor)
    normal = (x - mu[:, :, None, None]) / (var + norm.eps).sqrt()[:, :, None, None]
    return normal * norm.weight[:, None, None] + norm.bias[:, None, None]


def random_norm(channels: int = 5, **options: int) -> SwitchNorm2d:
    torch.manual_seed(1)
    norm = SwitchNorm2d(channels, **options).double()  # pyright: ignore
    for weight in norm.parameters():
        weight.data.normal_()
    return norm


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("size", [(3, 7), (1, 2), (6, 6)])
def test_output_and_gradients_are_those_of_the_formula(size: tuple[int, int], groups: int) -> None:
    norm = random_norm(**({"stat_group": 4 // groups} if groups > 1 else {}))
    x = (torch.randn(4, 5, *size, dtype=torch.float64) * 3 + 2).requires_grad_()
    ours, theirs = norm(x), formula(x, norm, groups)
    assert torch.allclose(ours, theirs, atol=1e-12)
    weights = torch.randn_like(ours)
    by = [x, *norm.parameters()]
    for one, other in zip(
        torch.autograd.grad(ours, by, weights), torch.autograd.grad(theirs, by, weights), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-10)


def test_gradients_pass_the_numerical_check() -> None:
    norm = random_norm(3)
    x = torch.randn(3, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_compiled_evaluated_and_eager_are_one(memory_format: torch.memory_format) -> None:
    norm = random_norm().float()
    x = torch.randn(4, 5, 6, 6).contiguous(memory_format=memory_format)
    eager = norm(x)
    with torch.no_grad():
        assert torch.allclose(norm(x), eager, atol=1e-6)
    assert eager.is_contiguous(memory_format=memory_format)
    assert torch.allclose(torch.compile(norm, backend="eager")(x), eager, atol=1e-6)


def test_large_means_do_not_drown_the_variance() -> None:
    norm = SwitchNorm2d(2)
    x = torch.randn(4, 2, 8, 8) + 1000.0
    assert torch.allclose(norm(x).double(), formula(x.double(), norm.double()), atol=2e-3)


def test_evaluation_takes_the_running_batch_moments() -> None:
    norm = random_norm()
    x = torch.randn(4, 5, 6, 6, dtype=torch.float64)
    norm(x)
    places = x.flatten(2)
    mean, square = places.mean(2), places.var(2) + places.mean(2) ** 2
    assert torch.allclose(norm.running_mean, 0.1 * mean.mean(0))
    assert torch.allclose(norm.running_var, 0.9 + 0.1 * (square.mean(0) - mean.mean(0) ** 2))
    for logits in (norm.mean_logits, norm.var_logits):
        logits.data = torch.tensor([-100.0, -100.0, 100.0], dtype=torch.float64)
    norm.eval()
    batch_norm = nn.BatchNorm2d(5).double().eval()
    batch_norm.load_state_dict({**norm.state_dict(), "num_batches_tracked": torch.tensor(1)}, strict=False)
    assert torch.allclose(norm(x), batch_norm(x), atol=1e-12)
    assert torch.allclose(norm(x[:1]), norm(x)[:1])


def hardened(mean: int, var: int) -> SwitchNorm2d:
    norm = SwitchNorm2d(5, argmax=True)
    norm.load_state_dict({**norm.state_dict(), **random_norm().float().state_dict()})
    norm.choose(mean, var)
    return norm


def test_a_choice_is_the_mixture_with_all_weight_on_it() -> None:
    x = torch.randn(4, 5, 6, 6) * 2 + 1
    for mean in range(3):
        for var in range(3):
            norm, soft = hardened(mean, var), random_norm().float()
            for logits, kind in ((soft.mean_logits, mean), (soft.var_logits, var)):
                logits.data = torch.full((3,), -200.0)
                logits.data[kind] = 200.0
            # A plain norm has the biased variance: 36 places, 35 in the other.
            assert torch.allclose(norm(x), soft(x), rtol=0.02, atol=0.02)
            if mean != var:
                assert torch.allclose(norm(x), soft(x), atol=1e-5)
            assert norm.shares()[0, mean] == norm.shares()[1, var] == 1


@pytest.mark.parametrize(
    ("kind", "layer"), [(0, nn.InstanceNorm2d), (1, nn.GroupNorm), (2, nn.BatchNorm2d)], ids=["in", "ln", "bn"]
)
def test_agreeing_choices_are_torchs_own_layers(kind: int, layer: type[nn.Module]) -> None:
    x = torch.randn(4, 5, 6, 6)
    norm = hardened(kind, kind)
    plain = norm.plain()
    assert type(plain) is layer
    assert torch.equal(norm.eval()(x), plain.eval()(x))
    assert hardened(0, 1).plain().__class__ is SwitchNorm2d


@pytest.mark.parametrize(("options", "parts"), [({"sync": True}, 1), ({"stat_group": 2}, 2)])
def test_a_layer_hardened_to_batch_statistics_trains_as_batch_norm(options: dict[str, int], parts: int) -> None:
    """Whichever images the statistics are over: the variance that it divides by is batch norm's, the biased one."""
    x = torch.randn(4, 5, 3, 3) * 2 + 1
    norm = SwitchNorm2d(5, argmax=True, **options)  # pyright: ignore
    halves = [nn.BatchNorm2d(5) for _ in range(parts)]
    expected = torch.cat([layer(part) for layer, part in zip(halves, x.chunk(parts), strict=True)])
    assert torch.allclose(norm(x), expected, atol=1e-5)
    running = torch.stack([layer.running_var for layer in halves if layer.running_var is not None]).mean(0)
    assert torch.allclose(norm.running_var, running, atol=1e-5)


def test_a_choice_survives_saving_and_trains_no_logits() -> None:
    norm = hardened(0, 1)
    other = SwitchNorm2d(5, argmax=True)
    other.load_state_dict(norm.state_dict(), assign=True)
    assert other.chosen == (0, 1)
    assert [name for name, weight in norm.named_parameters() if weight.requires_grad] == ["weight", "bias"]
    state = {**norm.state_dict(), "choice": torch.tensor([0, 3], dtype=torch.int8)}
    with pytest.raises(ValueError, match="statistics are 0"):
        SwitchNorm2d(5, argmax=True).load_state_dict(state)


def test_stat_group_must_divide_or_be_made_of_whole_batches() -> None:
    with pytest.raises(ValueError, match="stat_group=3: 1 process"):
        SwitchNorm2d(5, stat_group=3)(torch.randn(4, 5, 2, 2))
    with pytest.raises(ValueError, match="stat_group=8"):
        SwitchNorm2d(5, stat_group=8)(torch.randn(4, 5, 2, 2))


def test_networks_say_which_logits_decay_spares_and_which_norms_are_plain() -> None:
    network = create_model("r50", units=(1, 1, 1, 1), norm="syncsn", embedding_dim=8)
    layers = [module for module in network.modules() if isinstance(module, SyncSwitchNorm2d)]
    assert len(layers) == 1 + 4 * 4 + 1
    assert len(mixing_logits(network)) == 2 * len(layers)
    chosen = create_model("r50", units=(1, 1, 1, 1), norm="syncsn", norm_options={"argmax": True}, embedding_dim=8)
    images = torch.randn(2, 3, 112, 112)
    chosen(images)
    before = chosen.eval()(images)
    plain_norms(chosen.backbone)
    assert not [module for module in chosen.backbone.modules() if isinstance(module, SwitchNorm2d)]
    assert torch.allclose(chosen(images), before, atol=1e-6)


@pytest.mark.parametrize("name", ["bn", "syncbn", "gn", "in", "ln", "sn", "syncsn", "frozen"])
def test_every_norm_takes_maps_of_any_width_and_its_embedding_norm_vectors(name: str) -> None:
    norm = Norm(name, 1e-5)
    for channels in (64, 80, 3):
        x = torch.randn(4, channels, 5, 6).to(torch.bfloat16)
        assert norm(channels)(x).shape == x.shape
    assert norm.embedding(16)(torch.randn(4, 16)).shape == (4, 16)


def test_shared_batch_norm_is_batch_norm_and_frozen_stays_as_it_is() -> None:
    x = (torch.randn(6, 4, 5, 5) * 2 + 1).requires_grad_()
    shared, plain = Norm("syncbn", 1e-5)(4), nn.BatchNorm2d(4)
    weights = torch.randn(6, 4, 5, 5)
    for one, other in zip(
        torch.autograd.grad(shared(x), [x, *shared.parameters()], weights),
        torch.autograd.grad(plain(x), [x, *plain.parameters()], weights),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-4)
    assert torch.allclose(shared.running_mean, plain.running_mean, atol=1e-6)  # pyright: ignore
    assert torch.allclose(shared.running_var, plain.running_var, atol=1e-6)  # pyright: ignore
    assert torch.allclose(shared.eval()(x), plain.eval()(x), atol=1e-6)
    grouped = Norm("bn", 1e-5, {"stat_group": 3})(4)
    halves = torch.cat([nn.BatchNorm2d(4)(half) for half in x.chunk(2)])
    assert torch.allclose(grouped(x), halves, atol=1e-5)
    frozen = Norm("frozen", 1e-5)(4).train()
    assert torch.allclose(frozen(x), x, atol=1e-4)
    assert not [weight for weight in frozen.parameters() if weight.requires_grad]
