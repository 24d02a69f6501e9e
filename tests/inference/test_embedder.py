"""Embedders: prepared pixels, order, flip, normalisation, streaming; and what `load` opens."""

from __future__ import annotations

import threading
import tracemalloc

import cv2
import numpy as np
import pytest
import torch
from small_network import DIM, by_hand, noise, patches, shake, small_network, write_model
from torch import nn

import faceprint
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.inference.embedder import Embedder, network_embedder
from faceprint.inference.folding import fold_norms
from faceprint.models import create_model

SIZE = (6, 4)


def columns(batch):
    """(B, 3, 6, 4) -> (B, 3): the first column's mean of each channel, plus 1: a function that flipping changes."""
    assert batch.dtype == np.float32
    assert batch.shape[1:] == (3, *SIZE)
    return batch[:, :, :, 0].mean(axis=2) + 1


def toy(features=columns, **changes):
    spec = InputSpec(size=SIZE, mean=10.0, std=2.0)
    return Embedder(**{"features": features, "input": spec, "embedding_dim": 3, "name": "toy", **changes})


def expected(image, flip=False):
    column = [[(float(image[row, at, c]) - 10) / 2 for row in range(SIZE[0])] for c in range(3) for at in (0, -1)]
    left = np.array([sum(column[2 * c]) / SIZE[0] + 1 for c in range(3)])
    right = np.array([sum(column[2 * c + 1]) / SIZE[0] + 1 for c in range(3)])
    total = left + right if flip else left
    return total / np.sqrt((total**2).sum())


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_embeddings_by_the_formula_in_order_at_any_batch_size(flip, batch_size):
    images = noise(7, SIZE)
    found = toy().embed(images, flip=flip, batch_size=batch_size)
    assert (found.dtype, found.shape) == (np.float32, (7, 3))
    np.testing.assert_allclose(found, [expected(image, flip) for image in images], atol=1e-6)


def test_flip_sums_raw_outputs_before_normalising():
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:, 0, 0], image[:, -1, 1] = 250, 50  # unequal lengths: the mean of unit vectors would be another one
    np.testing.assert_allclose(toy().embed([image], flip=True)[0], expected(image, flip=True), atol=1e-6)


def test_paths_and_arrays_mix(tmp_path):
    images = noise(2, SIZE)
    cv2.imwrite(str(tmp_path / "a.png"), images[0][..., ::-1])
    found = toy().embed([str(tmp_path / "a.png"), tmp_path / "a.png", images[0], images[1]])
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[3])


def test_nothing_in_nothing_out():
    assert toy().embed([]).shape == (0, 3)


def test_progress_counts_images():
    calls = []
    toy().embed(list(noise(5, SIZE)), batch_size=2, progress=lambda *call: calls.append(call))
    assert calls == [(2, 5), (4, 5), (5, 5)]
    calls.clear()
    toy().embed((image for image in noise(3, SIZE)), progress=lambda *call: calls.append(call))
    assert calls == [(3, 0)]


def test_images_are_read_one_batch_ahead_in_another_thread():
    taken, seen = [], []

    def images():
        for number, image in enumerate(noise(20, SIZE)):
            taken.append((number, threading.current_thread()))
            yield image

    def features(batch):
        seen.append(len(taken))
        return columns(batch)

    toy(features).embed(images(), batch_size=2)
    assert len(taken) == 20
    assert {thread for _, thread in taken}.isdisjoint({threading.main_thread()})
    assert all(count <= 2 * (call + 2) for call, count in enumerate(seen))


def test_memory_does_not_grow_with_the_number_of_images():
    def peak(count):
        tracemalloc.start()
        toy().embed((np.full((*SIZE, 3), 20 + n % 100, np.uint8) for n in range(count)), batch_size=50)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(50)
    assert peak(5000) - peak(500) < 4500 * 3 * 4 * 6  # some copies of (N, 3) float32, not of images


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([np.zeros((5, 4, 3), np.uint8)], "image 0: got 5x4x3"),
        ([np.zeros((*SIZE, 3), np.uint8)] * 3 + [np.zeros(SIZE, np.uint8)], "image 3: got 6x4 uint8"),
        ([np.zeros((*SIZE, 3), np.float32)], "float32"),
        (["absent.png"], "absent.png"),
        ("absent.png", "several images"),
        (np.zeros((*SIZE, 3), np.uint8), "several images"),
    ],
)
def test_wrong_images_are_named(images, words):
    with pytest.raises(UserError, match=words):
        toy().embed(images, batch_size=2)


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    with pytest.raises(UserError, match=r"broken\.jpg"):
        toy().embed([noise(1, SIZE)[0], tmp_path / "broken.jpg"])


@pytest.mark.parametrize(("value", "word"), [(0.0, "zero"), (np.nan, "not finite"), (np.inf, "not finite")])
def test_an_embedding_without_direction_is_an_error_that_names_the_image(value, word):
    def features(batch):
        raw = np.ones((len(batch), 3), np.float32)
        raw[1] = value
        return raw

    with pytest.raises(UserError, match=f"image 5: its embedding is {word}"):
        toy(lambda batch: columns(batch) if batch[0].any() and len(batch) == 4 else features(batch)).embed(
            noise(6, SIZE), batch_size=4
        )


def test_embeddings_of_any_length_are_normalised():
    for scale in (1e-30, 1e30):
        found = toy(lambda batch, scale=scale: (columns(batch) * scale).astype(np.float32)).embed(noise(3, SIZE))
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_similarity_is_the_cosine_of_images_or_embeddings(tmp_path):
    a, b = noise(2, SIZE)
    cv2.imwrite(str(tmp_path / "b.png"), b[..., ::-1])
    cosine = float(expected(a) @ expected(b))
    embedder = toy()
    for second in (b, tmp_path / "b.png", embedder.embed([b])[0], 3.0 * expected(b)):
        assert embedder.similarity(a, second) == pytest.approx(cosine, abs=1e-6)
    assert embedder.similarity(a, a) == pytest.approx(1, abs=1e-12)
    assert embedder.similarity(expected(a), -expected(a)) == pytest.approx(-1, abs=1e-12)
    assert embedder.similarity(a, b, flip=True) == pytest.approx(float(expected(a, True) @ expected(b, True)), abs=1e-6)


@pytest.mark.parametrize("given", [np.ones(4), np.zeros(3), np.full(3, np.nan), np.ones((1, 3)), np.ones((6, 4, 3))])
def test_embeddings_that_cannot_be_compared(given):
    with pytest.raises(UserError):
        toy().similarity(given, np.ones(3))


@pytest.mark.parametrize("spec", [InputSpec(), InputSpec(size=(112, 96), colour="bgr", mean=10.0, std=100.0)])
def test_a_model_folder_gives_what_its_network_gives(tmp_path, spec):
    images = patches(3, spec.size)
    embedder = faceprint.load(write_model(tmp_path / "model", input=spec, threshold=0.5))
    np.testing.assert_allclose(embedder.embed(images), by_hand(small_network(spec.size), images, spec), atol=2e-5)
    assert (embedder.threshold, embedder.embedding_dim, embedder.input) == (0.5, DIM, spec)
    assert embedder.card is not None
    assert str(tmp_path) in embedder.name


def test_a_run_folder_is_opened_too(tmp_path):
    write_model(tmp_path / "model")
    images = patches(2)
    assert np.array_equal(faceprint.load(tmp_path).embed(images), faceprint.load(str(tmp_path / "model")).embed(images))


def test_the_network_in_training_is_put_into_evaluation_mode():
    network, images = small_network(), patches(2)
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    embedder = network_embedder(network, InputSpec(), torch.device("cpu"), name="in training")
    np.testing.assert_allclose(embedder.embed(images), by_hand(small_network(), images, InputSpec()), atol=2e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(("name", "left"), [("mbf", 0), ("r18", 8)])
def test_folded_norms_compute_the_same(name, left):
    """In iresnet the norm in front of each of the eight units follows an addition and stays."""
    network = shake(create_model(name, embedding_dim=16, image_size=(32, 32)))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    weights = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    folded = fold_norms(network)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.backbone.modules()) == left
    with torch.no_grad():
        plain = network(images)
        torch.testing.assert_close(folded(images), plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))
    assert all(torch.equal(tensor, weights[key]) for key, tensor in network.state_dict().items())


def test_a_network_that_cannot_be_traced_is_left_as_it_is():
    class Decides(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    network = small_network()
    network.backbone = Decides()
    assert fold_norms(network.eval()) is network


@pytest.mark.parametrize(
    ("name", "words"),
    [("absent", "no such folder"), ("notes.txt", "give a run folder"), ("absent.onnx", "cannot be read")],
)
def test_what_load_refuses(tmp_path, name, words):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match=words):
        faceprint.load(tmp_path / name)


def test_overrides_must_not_contradict_the_card(tmp_path):
    folder = write_model(tmp_path / "model")
    assert faceprint.load(folder, {"mean": "127.5", "size": "112x112", "colour": "rgb"}).input == InputSpec()
    for key, value in (("mean", "0"), ("colour", "bgr"), ("size", "112x96"), ("std", "0"), ("colour", "grau")):
        with pytest.raises(UserError, match=f"{key}"):
            faceprint.load(folder, {key: value})
    with pytest.raises(UserError, match="device"):
        faceprint.load(folder, device="abacus")
