"""SFace, a published recogniser: a foreign file of fixed batch that normalises its input itself."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import typer
from typer.testing import CliRunner

import faceprint
from faceprint.cli.embed import embed
from faceprint.cli.verify import verify
from faceprint.data.detection import YuNet
from faceprint.data.model_files import YUNET
from faceprint.inference.crop import crop_face

pytestmark = pytest.mark.real

RAW = {"mean": "0", "std": "1"}
NUM_PAIRS = 30


@pytest.fixture(scope="module")
def sface_file(test_data):
    return test_data / "models" / "face_recognition_sface_2021dec.onnx"


@pytest.fixture(scope="module")
def pairs(test_data):
    """Photographs of the first fold of LFW: NUM_PAIRS pairs of one person, then NUM_PAIRS of two; all apart."""
    lines = [line.split("\t") for line in (test_data / "data" / "lfw" / "pairs.txt").read_text().splitlines()[1:601]]
    same = [(name, a, name, b) for name, a, b in lines[:300:10]]
    different = [(name, a, other, b) for name, a, other, b in lines[300::10]]
    photograph = "{0}/{0}_{1:04d}.jpg".format
    folder = test_data / "data" / "lfw"
    return [(folder / photograph(m, int(a)), folder / photograph(n, int(b))) for m, a, n, b in same + different]


@pytest.fixture(scope="module")
def crops(test_data, pairs):
    """(2 x NUM_PAIRS, 2, 112, 112, 3)."""
    detector = YuNet(test_data / "models" / YUNET.name)
    return np.array([[crop_face(path, detector, (112, 112), "central") for path in pair] for pair in pairs])


def test_embeddings_are_those_of_the_file_run_directly(sface_file, crops):
    images = crops[:12].reshape(-1, 112, 112, 3)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(sface_file, options, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 3, 112, 112]
    raw = np.concatenate(
        [session.run(None, {"data": image.transpose(2, 0, 1)[None].astype(np.float32)})[0] for image in images]
    )
    embedder = faceprint.load(sface_file, RAW)
    assert embedder.embedding_dim == 128
    expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    np.testing.assert_allclose(embedder.embed(images), expected, atol=1e-5)


def test_it_tells_people_apart_unless_its_input_is_wrong(sface_file, crops):
    def cosines(overrides):
        found = faceprint.load(sface_file, overrides).embed(crops.reshape(-1, 112, 112, 3)).reshape(-1, 2, 128)
        return (found[:, 0] * found[:, 1]).sum(axis=1)

    same, different = np.split(cosines(RAW), 2)
    assert np.mean(same > 0.32) + np.mean(different <= 0.32) >= 2 * 0.96
    same, different = np.split(cosines({}), 2)  # scaled to [-1, 1], which SFace is not made for
    assert np.mean(same) - np.mean(different) < 0.2


def test_verify_and_embed_crop_photographs_themselves(test_data, sface_file, pairs, crops, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEPRINT_MODELS", str(test_data / "models"))
    app = typer.Typer()
    app.command("verify")(verify)
    app.command("embed")(embed)
    first, second = (str(path) for path in pairs[0])
    inputs = ["--input", "mean=0", "--input", "std=1", "--align"]
    command = ["verify", str(sface_file), first, second, *inputs, "--threshold", "0.32", "--json", "-"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    answer = json.loads(result.stdout)
    assert (answer["threshold"], answer["same"]) == (0.32, True)
    output = tmp_path / "two.npz"
    CliRunner().invoke(app, ["embed", str(sface_file), first, second, "--output", str(output), *inputs])
    with np.load(output) as content:
        assert content["path"].tolist() == [first, second]
        a, b = content["embedding"]
    assert answer["similarity"] == pytest.approx(float(a @ b), abs=1e-5)
