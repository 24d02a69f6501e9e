"""ONNX files with the names of the 2017 networks: loaded, ours computes what onnxruntime computes from the file."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from mxnet_graph import DIM, Inception, mobilenet_file, resnet_file
from torch.nn import functional as F

from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.models import create_model, load_weights

UNITS = (2, 1, 1, 1)


def resnet_case(name, **style):
    """The file, and the network of that name with as many units."""
    units = (1, 1, 1, 1) if style.get("bottleneck") else UNITS
    size = 32 if style.get("large_stem", True) else 64
    fixed = style.get("output") == "A"
    return lambda: resnet_file(units, size=size, **style), name, size, {"units": units}, not fixed


CASES = {
    "SE-LResNet50E_v3": resnet_case("SE-LResNet50E_v3", se=True),
    "ResNet50D_v1": resnet_case("ResNet50D_v1", kind="v1", large_stem=False, output="D"),
    "SE-LResNet50C_v1": resnet_case("SE-LResNet50C_v1", kind="v1", se=True, output="C"),
    "ResNet101E_v1": resnet_case("ResNet101E_v1", kind="v1", bottleneck=True, large_stem=False),
    "LResNet101B_v1": resnet_case("LResNet101B_v1", kind="v1", bottleneck=True, output="B"),
    "SE-LResNet50F_v2": resnet_case("SE-LResNet50F_v2", kind="v2", se=True, output="F"),
    "ResNet152A_v2": resnet_case("ResNet152A_v2", kind="v2", bottleneck=True, large_stem=False, output="A"),
    "LResNet50G_v3": resnet_case("LResNet50G_v3", output="G"),
    "SE-ResNet101D_v3": resnet_case("SE-ResNet101D_v3", bottleneck=True, se=True, large_stem=False, output="D"),
    "LResNeXt101E_v3": resnet_case("LResNeXt101E_v3", bottleneck=True, groups=32),
    "LResNet50GDC_v3": resnet_case("LResNet50GDC_v3", output="GDC"),
    "MobileNetD": (lambda: mobilenet_file("D"), "MobileNetD", 64, {"width": 0.25}, True),
    "Inception-ResNetAD": (lambda: Inception().file("AD"), "Inception-ResNetAD", 64, {"blocks": (1, 1, 1)}, False),
    "Inception-ResNetC": (lambda: Inception().file("C"), "Inception-ResNetC", 64, {"blocks": (1, 1, 1)}, True),
}


def ours(name, size, options, chooses_dim):
    return create_model(
        name, image_size=(size, size), **options, **({"embedding_dim": DIM} if chooses_dim else {})
    ).eval()


@pytest.mark.parametrize("case", list(CASES))
def test_embeddings_are_those_of_the_file(case, tmp_path) -> None:
    write, name, size, options, chooses_dim = CASES[case]
    (tmp_path / "w.onnx").write_bytes(write())
    network = ours(name, size, options, chooses_dim)
    report = load_weights(network, tmp_path / "w.onnx")
    assert report.layout == "mxnet"
    assert report.filled == []
    assert report.input == InputSpec(mean=127.5, std=128.0, size=(size, size))
    small = np.random.default_rng(1).integers(0, 256, (3, 4, 4, 3), np.uint8)
    pixels = small.repeat(size // 4, 1).repeat(size // 4, 2)
    session = onnxruntime.InferenceSession(tmp_path / "w.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"data": pixels.transpose(0, 3, 1, 2).astype(np.float32)})
    with torch.no_grad():
        found = F.normalize(network(torch.from_numpy(report.input.prepare(pixels))))
    expected = F.normalize(torch.from_numpy(expected))
    assert (expected[0] @ expected[1]) < 0.999
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "style"),
    [
        ("LResNet50E_v1", {}),
        ("LResNet50E_v2", {}),
        ("LResNet50E_v3", {"kind": "v1"}),
        ("LResNet50E_v3", {"output": "F"}),
        ("SE-LResNet50E_v3", {}),
    ],
)
def test_another_network_of_the_family_is_refused(name, style, tmp_path) -> None:
    (tmp_path / "w.onnx").write_bytes(resnet_file(**style))
    with pytest.raises(UserError, match="does not fit the network"):
        load_weights(ours(name, 32, {"units": (1, 1, 1, 1)}, True), tmp_path / "w.onnx")


def test_inception_with_se_is_refused_as_no_code_names_its_layers(tmp_path) -> None:
    (tmp_path / "w.onnx").write_bytes(Inception().file("AD"))
    network = ours("SE-Inception-ResNet-v2", 64, {"blocks": (1, 1, 1)}, False)
    with pytest.raises(UserError, match="missing"):
        load_weights(network, tmp_path / "w.onnx")
