"""Published weights: loaded, our network computes what theirs does; anything else is refused whole."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zipfile

import onnx
import pytest
import safetensors.torch
import torch
from mxnet_graph import resnet_file
from onnx import TensorProto
from published import (
    BodyNet,
    IResNet,
    MobileFaceNet,
    SNResNet,
    SwitchArgmax,
    SwitchNorm,
    ViT,
    batch_norm,
    shaken,
)
from torch.nn import functional as F

from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.models import create_model, export_weights, load_weights
from faceprint.models.weights import LAYOUTS

UNITS, SIDE, DIM = (2, 1, 2, 1), 2, 16
SMALL = {"units": UNITS, "image_size": (32, 32), "embedding_dim": DIM}
IR = {**SMALL, "bottleneck": False, "pool_shortcut": True, "eps": 1e-5}
SN = {**SMALL, "bottleneck": False}
MBF = {"blocks": (1, 2, 1, 2), "embedding_dim": DIM}
VIT = {"dim": 32, "depth": 2, "heads": 4, "embedding_dim": DIM}

CASES = {
    "arcface_torch/iresnet": (lambda: IResNet(UNITS, SIDE, DIM), ("r50", SMALL)),
    "arcface_torch/iresnet into another eps": (lambda: IResNet(UNITS, SIDE, DIM), ("LResNet50E_v3", SMALL)),
    "arcface_torch/mbf": (lambda: MobileFaceNet((1, 2, 1, 2), 2, DIM), ("mbf", MBF)),
    "arcface_torch/mbf large": (
        lambda: MobileFaceNet((2, 2, 1, 1), 4, DIM),
        ("mbf_large", {"blocks": (2, 2, 1, 1), "embedding_dim": DIM}),
    ),
    "arcface_torch/vit": (lambda: ViT(32, 2, 4, DIM), ("vit_s", VIT)),
    "switchable_normalization BN": (lambda: SNResNet(UNITS, SIDE, DIM, batch_norm), ("ResNet50+BN", SN)),
    "switchable_normalization SE": (
        lambda: SNResNet(UNITS, SIDE, DIM, batch_norm, se=True),
        ("ResNet50+BN", {**SN, "se": True}),
    ),
    "switchable_normalization SN": (lambda: SNResNet(UNITS, SIDE, DIM, SwitchNorm), ("ResNet50+SN", SN)),
    "switchable_normalization SyncSN": (lambda: SNResNet(UNITS, SIDE, DIM, SwitchNorm), ("ResNet50+SYNCSN", SN)),
    "switchable_normalization ARGMAX": (
        lambda: SNResNet(UNITS, SIDE, DIM, SwitchArgmax),
        ("ResNet50+SYNCSN+ARGMAX", SN),
    ),
    "cvlface": (lambda: BodyNet(UNITS, SIDE, DIM, "cvlface"), ("resnet", IR)),
    "cvlface SE": (lambda: BodyNet(UNITS, SIDE, DIM, "cvlface", se=True), ("resnet", {**IR, "se": True})),
    "cvlface bottleneck": (
        lambda: BodyNet((1, 2, 1, 1), SIDE, DIM, "bottleneck", se=True),
        ("resnet", {**IR, "units": (1, 2, 1, 1), "bottleneck": True, "se": True}),
    ),
    "insightface_pytorch": (
        lambda: BodyNet(UNITS, SIDE, DIM, "insightface_pytorch", se=True),
        ("resnet", {**IR, "se": True}),
    ),
    "insightface_pytorch without SE": (lambda: BodyNet(UNITS, SIDE, DIM, "insightface_pytorch"), ("resnet", IR)),
}


def ours(name, options):
    return create_model(name, **options).eval()


def images(network):
    """Three of smooth patches: of noise, a network sees the mean, and all embeddings are nearly the same."""
    small = torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    return F.interpolate(2 * small, network.image_size, mode="bilinear")


@pytest.fixture
def iresnet():
    torch.manual_seed(0)
    return shaken(IResNet(UNITS, SIDE, DIM))


@pytest.fixture
def network():
    return ours("r50", SMALL)


def unchanged(network, action, *words):
    """`action` raises a `UserError` with these words, and the network stays as it is."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UserError) as raised:
        action()
    for word in words:
        assert word in str(raised.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("case", list(CASES))
def test_embeddings_are_those_of_the_published_network(case, tmp_path) -> None:
    torch.manual_seed(0)
    build, (name, options) = CASES[case]
    published, network = shaken(build()), ours(name, options)
    torch.save(published.state_dict(), tmp_path / "weights.pth")
    report = load_weights(network, tmp_path / "weights.pth")
    assert report.layout == case.split(" ")[0]
    assert [report.missing, report.unexpected, report.reshaped, report.outside] == [[], [], [], []]
    counted = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    assert report.loaded + len(report.filled) == len(counted)
    with torch.no_grad():
        x = images(network)
        expected, found = F.normalize(published(x)), F.normalize(network(x))
    assert (expected[0] @ expected[1]) < 0.999
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


IR_FULL = {"bottleneck": False, "pool_shortcut": True, "eps": 1e-5}
FULL = {
    "r18": ("arcface_torch/iresnet", lambda: IResNet((2, 2, 2, 2), 7, 512), ("r18", {})),
    "r200": ("arcface_torch/iresnet", lambda: IResNet((6, 26, 60, 6), 7, 512), ("r200", {})),
    "r2060": ("arcface_torch/iresnet", lambda: IResNet((3, 128, 896, 3), 7, 512), ("r2060", {})),
    "mbf": ("arcface_torch/mbf", lambda: MobileFaceNet((1, 4, 6, 2), 2, 512), ("mbf", {})),
    "mbf_large": ("arcface_torch/mbf", lambda: MobileFaceNet((2, 8, 12, 4), 4, 512), ("mbf_large", {})),
    "vit_t": ("arcface_torch/vit", lambda: ViT(256, 12, 8, 512), ("vit_t", {})),
    "vit_l": ("arcface_torch/vit", lambda: ViT(768, 24, 8, 512), ("vit_l", {})),
    "SN": (
        "switchable_normalization",
        lambda: SNResNet((3, 13, 30, 3), 7, 512, SwitchNorm),
        ("ResNet100+SYNCSN", {}),
    ),
    "IR-101": ("cvlface", lambda: BodyNet((3, 13, 30, 3), 7, 512, "cvlface"), ("resnet", {"depth": 100, **IR_FULL})),
    "IR-SE-50": (
        "insightface_pytorch",
        lambda: BodyNet((3, 4, 14, 3), 7, 512, "insightface_pytorch", se=True),
        ("resnet", {"depth": 50, "se": True, **IR_FULL}),
    ),
}


@pytest.mark.parametrize("case", list(FULL))
def test_at_full_size_every_tensor_has_its_place(case) -> None:
    layout, build, (name, options) = FULL[case]
    with torch.device("meta"):
        theirs, network = build().state_dict(), create_model(name, **options)
    state, sources = network.state_dict(), LAYOUTS[layout].sources(network)
    assert set(sources) == set(state)
    needed = {need for ours, source in sources.items() for need in source.names if "num_batches" not in ours}
    assert needed == {name for name in theirs if "num_batches" not in name}
    assert all(sources[ours].fits(theirs, tensor) for ours, tensor in state.items() if "num_batches" not in ours)


def test_every_layout_is_tested_here() -> None:
    tested = {case.split(" ")[0] for case in CASES}
    assert tested == set(LAYOUTS) - {"faceprint", "mxnet"}
    assert len(LAYOUTS) == 8


def test_what_filled_tensors_are_is_reported(tmp_path) -> None:
    torch.save(BodyNet(UNITS, SIDE, DIM, "insightface_pytorch", se=True).state_dict(), tmp_path / "w.pth")
    report = load_weights(ours("resnet", {**IR, "se": True}), tmp_path / "w.pth")
    assert "backbone.layer1.0.bn2.running_var" in report.filled
    assert "backbone.layer4.0.se.gate.2.weight" in report.filled
    assert report.input == InputSpec(colour="bgr", size=(32, 32))
    assert "BGR" in report.note


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"epoch": 3, "state_dict": {f"module.backbone.{name}": t for name, t in state.items()}},
        lambda state: {
            "model": "r50",
            "state_dict_backbone": state,
            "state_dict_softmax_fc": {"weight": torch.ones(2)},
        },
        lambda state: {"model": {**{f"model.{n}": t for n, t in state.items()}, "head.kernel": torch.ones(3)}},
        lambda state: {name: t for name, t in state.items() if "num_batches" not in name},
        lambda state: {name: t.double() if t.is_floating_point() else t for name, t in state.items()},
    ],
)
def test_wrappers_are_seen_through(wrap, iresnet, network, tmp_path) -> None:
    torch.save(wrap(iresnet.state_dict()), tmp_path / "w.pt")
    report = load_weights(network, tmp_path / "w.pt")
    assert report.outside in ([], ["head.kernel"])
    assert torch.equal(network.state_dict()["output.fc.weight"], iresnet.fc.weight)
    assert network.state_dict()["output.fc.weight"].dtype == torch.float32


def test_safetensors_and_our_own_folder(iresnet, network, tmp_path) -> None:
    safetensors.torch.save_file(iresnet.state_dict(), tmp_path / "w.safetensors")
    assert load_weights(network, tmp_path / "w.safetensors").layout == "arcface_torch/iresnet"
    again = ours("r50", SMALL)
    (tmp_path / "model").mkdir()
    safetensors.torch.save_file(network.state_dict(), tmp_path / "model" / "model.safetensors")
    assert load_weights(again, tmp_path / "model").layout == "faceprint"
    assert all(torch.equal(t, network.state_dict()[name]) for name, t in again.state_dict().items())


@pytest.mark.parametrize("case", ["arcface_torch/iresnet", "insightface_pytorch"])
def test_a_network_without_memory_gets_the_weights(case, tmp_path) -> None:
    build, (name, options) = CASES[case]
    published = shaken(build())
    torch.save(published.state_dict(), tmp_path / "w.pt")
    with torch.device("meta"):
        network = ours(name, options)
    load_weights(network, tmp_path / "w.pt")
    assert not any(tensor.is_meta for tensor in network.state_dict().values())
    with torch.no_grad():
        x = images(network)
        torch.testing.assert_close(F.normalize(network(x)), F.normalize(published(x)), atol=1e-5, rtol=0)


def test_mismatch_is_listed_and_loads_nothing_unless_allowed(iresnet, network, tmp_path) -> None:
    state = iresnet.state_dict()
    state["layer1.9.conv1.weight"] = torch.ones(1)
    state["conv1.weight"] = torch.ones(64, 3, 5, 5)
    del state["fc.bias"]
    torch.save(state, tmp_path / "w.pt")
    words = ["1 missing: fc.bias", "1 not in the network: layer1.9.conv1.weight", "conv1.weight (64, 3, 5, 5)"]
    unchanged(network, lambda: load_weights(network, tmp_path / "w.pt"), *words, "(64, 3, 3, 3)")
    bias = network.state_dict()["output.fc.bias"].clone()
    report = load_weights(network, tmp_path / "w.pt", allow_mismatch=True)
    assert (report.missing, report.unexpected) == (["fc.bias"], ["layer1.9.conv1.weight"])
    assert report.reshaped == ["conv1.weight (64, 3, 5, 5), the network has (64, 3, 3, 3)"]
    assert torch.equal(network.state_dict()["output.fc.bias"], bias)
    assert torch.equal(network.state_dict()["output.fc.weight"], iresnet.fc.weight)


def test_another_network_is_refused(iresnet, tmp_path) -> None:
    torch.save(iresnet.state_dict(), tmp_path / "w.pt")
    for name, options in (("mbf", MBF), ("resnet", {**SMALL, "unit": "v1", "bottleneck": False})):
        network = ours(name, options)
        unchanged(network, lambda network=network: load_weights(network, tmp_path / "w.pt"), "does not fit", "missing")
    vit = ours("vit_t", {**VIT, "embedding_dim": 8})
    unchanged(vit, lambda: load_weights(vit, tmp_path / "w.pt", allow_mismatch=True), "does not fit")


def test_an_eps_that_no_variance_makes_up_for_is_refused(tmp_path) -> None:
    torch.save(SNResNet(UNITS, SIDE, DIM, SwitchNorm).state_dict(), tmp_path / "w.pt")
    network = ours("ResNet50+SN", {**SN, "eps": 1e-3})
    unchanged(network, lambda: load_weights(network, tmp_path / "w.pt"), "eps=2e-05")


class Malicious:
    def __init__(self, marker) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("wrap", [lambda bad: bad, lambda bad: {"state_dict": {"conv1.weight": bad}}])
@pytest.mark.parametrize("legacy", [True, False])
def test_a_malicious_pickle_is_refused_and_runs_nothing(wrap, legacy, network, tmp_path) -> None:
    marker = tmp_path / "ran"
    torch.save(wrap(Malicious(marker)), tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    unchanged(network, lambda: load_weights(network, tmp_path / "w.pt"), "refused", "nothing in it was run", "mkdir")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Malicious(marker), protocol=2))
    unchanged(network, lambda: load_weights(network, tmp_path / "plain.pth"), "refused")
    assert not marker.exists()


def expanded(*shape):
    return torch.zeros(1).expand(*shape)


HOSTILE = {
    "not a number": ({"conv1.weight": torch.full((64, 3, 3, 3), float("nan"))}, "not finite"),
    "infinite": ({"anything": torch.tensor(float("inf"))}, "not finite"),
    "no tensor": ({"conv1.weight": torch.ones(1), "fc.weight": 3}, "is int"),
    "no name": ({3: torch.ones(1)}, "named tensors"),
    "sparse": ({"conv1.weight": torch.eye(3).to_sparse()}, "not of plain numbers"),
    "complex": ({"conv1.weight": torch.ones(1, dtype=torch.complex64)}, "not of plain numbers"),
    "more numbers than it holds": ({"conv1.weight": expanded(10**6, 10**6)}, "holds fewer"),
    "a list": ([torch.ones(1)], "holds list"),
    "nothing": ({}, "holds nothing"),
    "no weights": ({"epoch": 1, "optimizer": {}}, "holds epoch, optimizer"),
    "unknown names": ({"features.0.weight": torch.ones(1)}, "no known layout"),
}


@pytest.mark.parametrize("case", list(HOSTILE))
def test_hostile_content_is_refused(case, network, tmp_path) -> None:
    content, word = HOSTILE[case]
    torch.save(content, tmp_path / "w.pt")
    unchanged(network, lambda: load_weights(network, tmp_path / "w.pt", allow_mismatch=True), "w.pt", word)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".onnx"])
@pytest.mark.parametrize("damage", ["empty", "noise", "cut"])
def test_damaged_files_are_refused(suffix, damage, iresnet, network, tmp_path) -> None:
    content = io.BytesIO()
    torch.save(iresnet.state_dict(), content)
    data = {"empty": b"", "noise": bytes(range(256)) * 20, "cut": content.getvalue()[:-4000]}[damage]
    (tmp_path / f"w{suffix}").write_bytes(data)
    unchanged(network, lambda: load_weights(network, tmp_path / f"w{suffix}"), f"w{suffix}")


def test_compressed_archives_and_other_files_are_refused(iresnet, network, tmp_path) -> None:
    torch.save(iresnet.state_dict(), tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt") as plain, zipfile.ZipFile(tmp_path / "z.pt", "w", 8) as packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    unchanged(network, lambda: load_weights(network, tmp_path / "z.pt"), "compressed")
    unchanged(network, lambda: load_weights(network, tmp_path / "nothing.pt"), "no such file")
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        archive.add(tmp_path / "w.pt", "storages")
    unchanged(network, lambda: load_weights(network, tmp_path / "t.tar"), "tar format")
    (tmp_path / "w.txt").write_text("weights")
    unchanged(network, lambda: load_weights(network, tmp_path / "w.txt"), "'.txt'", ".safetensors")


@pytest.mark.parametrize(
    ("build", "name", "options"),
    [
        (lambda: IResNet((1, 2, 1, 1), 7, DIM), "r50", {"units": (1, 2, 1, 1), "embedding_dim": DIM}),
        (lambda: MobileFaceNet((1, 2, 1, 2), 2, DIM), "mbf", MBF),
        (lambda: MobileFaceNet((2, 1, 1, 1), 4, DIM), "mbf_large", {"blocks": (2, 1, 1, 1), "embedding_dim": DIM}),
        (lambda: ViT(32, 2, 4, DIM), "vit_t", VIT),
    ],
)
def test_round_trip_to_arcface_torch_keeps_every_byte(build, name, options, tmp_path) -> None:
    published, network = shaken(build()), ours(name, options)
    torch.save(published.state_dict(), tmp_path / "theirs.pt")
    load_weights(network, tmp_path / "theirs.pt")
    report = export_weights(network, tmp_path / "ours.pt")
    back = torch.load(tmp_path / "ours.pt", weights_only=True)
    build().load_state_dict(back, strict=True)
    assert report.num_tensors == len(back)
    for key, tensor in published.state_dict().items():
        assert tensor.dtype == back[key].dtype
        assert torch.equal(tensor, back[key]), key


def test_export_makes_up_for_another_eps(tmp_path) -> None:
    network = shaken(ours("LResNet50E_v3", {"units": (1, 1, 1, 1), "embedding_dim": DIM}))
    export_weights(network, tmp_path / "w.pt")
    published = IResNet((1, 1, 1, 1), 7, DIM).eval()
    published.load_state_dict(torch.load(tmp_path / "w.pt", weights_only=True))
    with torch.no_grad():
        x = images(network)
        torch.testing.assert_close(F.normalize(published(x)), F.normalize(network(x)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SEResNet50-IR", {"units": (1, 1, 1, 1)}),
        ("ResNet50+BN", {"units": (1, 1, 1, 1)}),
        ("r50", {"units": (1, 1, 1, 1), "pool_shortcut": True}),
        ("r50", {"units": (1, 1, 1, 1), "stem": "7x7"}),
        ("r50", {"units": (1, 1, 1, 1), "unit": "v1"}),
        ("r50", {"units": (1, 1, 1, 1), "output": "F"}),
        ("r50", SMALL),
        ("mbf", {"width": 0.5}),
    ],
)
def test_networks_that_arcface_torch_does_not_have_are_not_exported(name, options, tmp_path) -> None:
    with pytest.raises(UserError, match="arcface_torch has no network"):
        export_weights(ours(name, options), tmp_path / "w.pt")
    assert not list(tmp_path.iterdir())


def test_layouts_that_nothing_is_exported_to_are_named(network, tmp_path) -> None:
    with pytest.raises(UserError, match="allowed: arcface_torch"):
        export_weights(network, tmp_path / "w.pt", layout="mxnet")


def test_hostile_onnx_files_are_refused(network, tmp_path) -> None:
    model = onnx.load_model_from_string(resnet_file((2, 1, 1, 1), se=True))
    tensor = model.graph.initializer[2]
    del tensor.dims[:]
    tensor.dims.extend([2**30, 2**30])
    onnx.save(model, tmp_path / "dims.onnx")
    unchanged(network, lambda: load_weights(network, tmp_path / "dims.onnx"), "damaged")
    model = onnx.load_model_from_string(resnet_file((2, 1, 1, 1), se=True))
    tensor = model.graph.initializer[2]
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/hostname"
    (tmp_path / "outside.onnx").write_bytes(model.SerializeToString())
    unchanged(network, lambda: load_weights(network, tmp_path / "outside.onnx"), "another file")


def test_nothing_is_loaded_into_what_is_no_layer_of_theirs() -> None:
    rules = LAYOUTS["arcface_torch/iresnet"]
    names = rules.sources(ours("r50", {**SMALL, "se": True}))
    assert not any(".se." in name for name in names)
