"""Published weights to a model folder and back."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from small_network import OPTIONS, noise, write_model

import faceprint
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.inference.model_folder import load_model
from faceprint.inference.published import export_weights, import_weights
from faceprint.models import export_weights as write_weights

BIG = {"blocks": [1, 1, 1, 1]}  # of the published width, which can be exported


@pytest.fixture
def weights(tmp_path):
    network = faceprint.create_model("mbf", embedding_dim=24, **BIG).eval()
    write_weights(network, tmp_path / "backbone.pt")
    return network, tmp_path / "backbone.pt"


def test_a_model_folder_of_weights_says_where_they_come_from(weights, tmp_path) -> None:
    network, file = weights
    report = import_weights(
        file,
        tmp_path / "model",
        network="mbf",
        embedding_dim=24,
        options=BIG,
        overrides={"colour": "bgr"},
        licence="MIT",
    )
    assert report.layout == "arcface_torch/mbf"
    loaded, card = load_model(tmp_path / "model")
    assert card.provenance["weights"] == {
        "file": "backbone.pt",
        "layout": "arcface_torch/mbf",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    assert (card.licence, card.options, card.input) == ("MIT", BIG, InputSpec(colour="bgr"))
    state = network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    assert faceprint.load(tmp_path / "model").embed(noise(2, (112, 112))).shape == (2, 24)


def test_a_folder_with_a_model_is_kept(weights, tmp_path) -> None:
    write_model(tmp_path / "model")
    before = (tmp_path / "model" / "model.json").read_bytes()
    with pytest.raises(UserError, match="has a model already"):
        import_weights(weights[1], tmp_path / "model", network="mbf")
    assert (tmp_path / "model" / "model.json").read_bytes() == before


def test_what_was_not_loaded_is_in_the_card(weights, tmp_path) -> None:
    with pytest.raises(UserError, match=r"does not fit.*features.layers.2.weight \(24, 512\)"):
        import_weights(weights[1], tmp_path / "model", network="mbf", embedding_dim=32, options=BIG)
    assert not (tmp_path / "model").exists()
    made = tmp_path / "model"
    import_weights(weights[1], made, network="mbf", embedding_dim=32, options=BIG, allow_mismatch=True)
    card = json.loads((made / "model.json").read_text())
    assert any("features.layers.2.weight" in name for name in card["provenance"]["weights"]["not_loaded"])


def test_our_own_folder_is_weights_too(tmp_path) -> None:
    folder = write_model(tmp_path / "first")
    import_weights(folder, tmp_path / "second", network="mbf", embedding_dim=24, options=OPTIONS)
    images = noise(2, (112, 112))
    first, second = (faceprint.load(tmp_path / name).embed(images) for name in ("first", "second"))
    np.testing.assert_array_equal(first, second)


def test_weights_of_a_folder_are_exported(weights, tmp_path) -> None:
    import_weights(weights[1], tmp_path / "model", network="mbf", embedding_dim=24, options=BIG)
    report = export_weights(tmp_path / "model", tmp_path / "again.pt", layout="arcface_torch")
    assert report.layout == "arcface_torch/mbf"
    again, first = (torch.load(path, weights_only=True) for path in (tmp_path / "again.pt", weights[1]))
    assert list(again) == list(first)
    assert all(torch.equal(again[name], first[name]) for name in first)
    with pytest.raises(UserError, match=r"ends in \.pt"):
        export_weights(tmp_path / "model", tmp_path / "again.onnx", layout="arcface_torch")
