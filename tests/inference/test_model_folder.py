"""Model folders: what is saved comes back, and what does not fit is named."""

from __future__ import annotations

import hashlib
import json
import time

import numpy as np
import pytest
import safetensors.torch
import torch
from pydantic import ValidationError
from small_network import DIM, patches, small_card, small_network, write_model

from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.inference.model_folder import find_model_folder, load_model, save_model


@pytest.fixture
def folder(tmp_path):
    return write_model(tmp_path / "run" / "model", provenance={"data": "noise", "step": 7}, threshold=0.25)


def edit_card(folder, **changes):
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rewrite_tensors(folder, data):
    """Other bytes, with a card that vouches for them."""
    (folder / "model.safetensors").write_bytes(data)
    edit_card(folder, content_hash=f"sha256:{hashlib.sha256(data).hexdigest()}")


def test_what_is_saved_comes_back(folder):
    network, card = load_model(folder)
    original = small_network()
    assert list(network.state_dict()) == list(original.state_dict())
    for name, tensor in original.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name
    images = torch.from_numpy(InputSpec().prepare(patches(2)))
    assert torch.equal(network(images), original(images))
    assert card.provenance == {"data": "noise", "step": 7}
    assert (card.threshold, card.licence, card.embedding_dim) == (0.25, "test", DIM)


def test_a_loaded_network_is_for_use_not_for_training(folder):
    network, _ = load_model(folder)
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(tensor.is_meta for tensor in [*network.parameters(), *network.buffers()])


def test_the_run_folder_stands_for_its_model(folder):
    assert find_model_folder(folder.parent) == folder
    assert load_model(folder.parent)[1] == load_model(folder)[1]


def test_the_card_has_what_other_programs_read(folder):
    content = json.loads((folder / "model.json").read_text())
    assert content["architecture"] == "mbf"
    assert content["options"] == {"blocks": [1, 1, 1, 1], "scale": 1}
    assert content["input"] == {"size": [112, 112], "colour": "rgb", "mean": 127.5, "std": 127.5}
    assert (content["embedding_dim"], content["licence"]) == (DIM, "test")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert content["content_hash"] == f"sha256:{digest}"
    assert len(safetensors.torch.load_file(folder / "model.safetensors")) == len(small_network().state_dict())


def test_channels_last_weights_are_saved_as_others_are(tmp_path):
    last = small_network().to(memory_format=torch.channels_last)
    cards = [save_model(tmp_path / name, each, small_card()) for name, each in (("a", small_network()), ("b", last))]
    assert cards[0].content_hash == cards[1].content_hash


def test_saving_again_replaces_and_leaves_nothing_behind(folder):
    save_model(folder, small_network(), small_card(licence="another"))
    assert load_model(folder)[1].licence == "another"
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        save_model(tmp_path / "file" / "model", small_network(), small_card())


def test_damaged_weights_are_noticed_and_both_hashes_named(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        load_model(folder)
    assert hashlib.sha256(data).hexdigest() in str(caught.value)
    assert json.loads((folder / "model.json").read_text())["content_hash"] in str(caught.value)


def test_a_card_without_hash_vouches_for_nothing(folder):
    edit_card(folder, content_hash=None)
    with pytest.raises(UserError, match="content hash"):
        load_model(folder)


def test_weights_that_do_not_fit_are_listed(folder):
    state = safetensors.torch.load_file(folder / "model.safetensors")
    name = "output.conv.weight" if "output.conv.weight" in state else next(iter(state))
    state["surplus.weight"] = torch.zeros(1)
    state[name] = state[name][:-1].clone()
    del state["backbone.conv_sep.0.weight"]
    rewrite_tensors(folder, safetensors.torch.save(state))
    with pytest.raises(UserError) as caught:
        load_model(folder)
    for part in ("3 tensors differ", "missing: backbone.conv_sep.0.weight", "surplus.weight", f"shape of {name}"):
        assert part in str(caught.value)


def test_weights_stored_in_half_precision_become_float32(folder):
    state = safetensors.torch.load_file(folder / "model.safetensors")
    halved = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    rewrite_tensors(folder, safetensors.torch.save(halved))
    network, _ = load_model(folder)
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "r51"}, "r50"),
        ({"options": {"blocs": [1, 1, 1, 1]}}, "blocks"),
        ({"options": {"blocks": "many"}}, "options"),
        ({"options": {"blocks": [10**9, 1, 1, 1]}}, "4096"),
        ({"options": {"blocks": [[[1] * 65]]}}, "64 entries"),
        ({"embedding_dim": 10**12}, "embedding_dim"),
        ({"embedding_dim": 1 << 16, "options": {"output": "E"}}, "differ"),
        ({"embedding_dim": "24 or so"}, "embedding_dim"),
        ({"input": {"size": [0, 112]}}, "1 to 4096"),
        ({"input": {"size": [112, 112], "std": 0}}, "std"),
        ({"input": {"colour": "grey"}}, "colour"),
        ({"threshold": 2}, "threshold"),
        ({"content_hash": "md5:1"}, "content_hash"),
        ({"format": "faceprint-model/99"}, "format"),
        ({"secret": 1}, "secret"),
    ],
)
def test_hostile_cards_are_refused_quickly(folder, changes, words):
    edit_card(folder, **changes)
    started = time.perf_counter()
    with pytest.raises(UserError, match=words):
        load_model(folder)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "text", [b"", b"\xff\xfe", b"[]", b"{", b'{"a":' * 100_000, b" " * 2_000_000, b'{"embedding_dim": NaN}']
)
def test_a_card_that_is_none(folder, text):
    (folder / "model.json").write_bytes(text)
    with pytest.raises(UserError, match=r"model\.json"):
        load_model(folder)


@pytest.mark.parametrize("data", [b"", b"x", b"\xff" * 64, bytes(8), b"\x02\0\0\0\0\0\0\0{}", np.arange(512).tobytes()])
def test_weights_that_are_none(folder, data):
    rewrite_tensors(folder, data)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_model(folder)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        load_model(tmp_path / "absent")
    with pytest.raises(UserError, match=r"no model\.json"):
        load_model(tmp_path)
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(UserError, match="not written"):
        load_model(tmp_path)
    write_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        load_model(tmp_path)


def test_cards_made_here_are_checked_too():
    with pytest.raises(ValidationError):
        small_card(embedding_dim=0)
    with pytest.raises(UserError, match="std above 0"):
        InputSpec(std=0.0)
