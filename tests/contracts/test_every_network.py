"""Every published name, in one size smaller: it trains a step, survives saving and exports to an equal ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from faceprint.data.pixels import InputSpec
from faceprint.inference.export import export_onnx
from faceprint.inference.folding import fold_norms
from faceprint.inference.model_card import ModelCard
from faceprint.inference.model_folder import load_model, save_model
from faceprint.models import FaceNetwork, create_model, list_models
from faceprint.models.names import parse_name

SMALLER: dict[str, dict[str, Any]] = {
    "resnet": {"units": (1, 2, 1, 1)},
    "mobilefacenet": {"blocks": (1, 1, 1, 1), "width": 0.5},
    "mobilenet": {"width": 0.25},
    "inception_resnet": {"blocks": (1, 1, 1)},
    "vit": {"dim": 64, "depth": 2},
}
ONE_OF_EACH = {"r50", "SE-LResNet50A_v3", "SE-ResNet152E_v3", "LResNeXt101E_v3", "ResNet50+SYNCSN", "vit_t"}
SIZE = (112, 96)


def options_of(name: str) -> dict[str, Any]:
    family, stated = parse_name(name)
    fixed = stated.get("output", "E")[0] in "AZ" or family == "inception_resnet"
    return {**SMALLER[family], **({} if fixed else {"embedding_dim": 12})}


def small(name: str) -> FaceNetwork:
    torch.manual_seed(0)
    size = (112, 112) if name.startswith("vit") else SIZE
    return create_model(name, image_size=size, **options_of(name))


def trained(name: str) -> FaceNetwork:
    """A step is taken, so that running moments are those of data."""
    network = small(name).train()
    images = torch.randn(4, 3, *network.image_size)
    embeddings = network(images)
    assert embeddings.dtype == torch.float32
    assert embeddings.shape == (4, network.embedding_dim)
    (embeddings * torch.randn_like(embeddings)).sum().backward()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    before = [weight.detach().clone() for weight in network.parameters()]
    for key, weight in network.named_parameters():
        assert not weight.requires_grad or (weight.grad is not None and weight.grad.isfinite().all()), key
    optimizer.step()
    moved = [not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2
    with torch.no_grad():
        for _ in range(20):  # running moments settle
            network(images)
    return network.eval()


def save(network: FaceNetwork, name: str, folder: Path) -> None:
    options = {key: value for key, value in options_of(name).items() if key != "embedding_dim"}
    card = ModelCard(
        architecture=name,
        options=options,
        embedding_dim=network.embedding_dim,
        input=InputSpec(size=network.image_size),
        licence="CC0-1.0",
    )
    save_model(folder, network, card)


def test_all_names_are_seen() -> None:
    assert len(list_models()) == 51
    assert set(SMALLER) == {parse_name(name)[0] for name in list_models()}


@pytest.mark.parametrize("name", list_models())
def test_a_step_saving_and_folding(name: str, tmp_path: Path) -> None:
    network = trained(name)
    save(network, name, tmp_path)
    loaded, _ = load_model(tmp_path)
    images = torch.randn(3, 3, *network.image_size)
    with torch.no_grad():
        embeddings = network(images)
        assert torch.equal(loaded(images), embeddings)
        unit = torch.nn.functional.normalize(embeddings)
        assert torch.allclose(torch.nn.functional.normalize(fold_norms(loaded)(images)), unit, atol=2e-4)
        fast = network.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
        assert torch.allclose(torch.nn.functional.normalize(fast), unit, atol=2e-4)


QUICK_FIRST = [pytest.param(name, marks=() if name in ONE_OF_EACH else pytest.mark.slow) for name in list_models()]


@pytest.mark.parametrize("name", QUICK_FIRST)
def test_compiling_changes_nothing(name: str) -> None:
    """Traced forward and backward by torch.compile; "aot_eager" leaves out the code generator, which is not ours."""
    network = small(name).eval()  # without dropout, whose random numbers compiling draws in another order
    for module in network.modules():
        if isinstance(module, torch.nn.PReLU):
            module.weight.data.fill_(1.0)  # no kink, where rounding of one activation would change gradients by steps
    images = torch.randn(2, 3, *network.image_size)
    weights = torch.randn(2, network.embedding_dim)
    gradients: list[list[torch.Tensor]] = []
    for run in (network, torch.compile(network, backend="aot_eager")):
        network.zero_grad()
        (run(images) * weights).sum().backward()
        gradients.append([weight.grad.clone() for weight in network.parameters() if weight.grad is not None])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()))


@pytest.mark.parametrize("name", QUICK_FIRST)
def test_the_onnx_file_is_equal(name: str, tmp_path: Path) -> None:
    """`export_onnx` itself compares the file at batch 1, 2 and 7, and raises where they differ."""
    save(trained(name), name, tmp_path / "model")
    report = export_onnx(tmp_path / "model", tmp_path / "model.onnx")
    assert set(report.differences) == {1, 2, 7}
    assert max(report.differences.values()) < 1e-4
