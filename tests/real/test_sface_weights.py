"""SFace's weights out of its ONNX file into `LMobileNetE`: the embeddings of 64 faces of LFW are the file's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import faceprint
from faceprint.data.detection import YuNet
from faceprint.data.model_files import YUNET
from faceprint.inference.crop import crop_face
from faceprint.inference.published import import_weights
from faceprint.models import create_model, load_weights

pytestmark = pytest.mark.real

NUM_FACES = 64


@pytest.fixture(scope="module")
def sface_file(test_data):
    return test_data / "models" / "face_recognition_sface_2021dec.onnx"


@pytest.fixture(scope="module")
def crops(test_data):
    """(NUM_FACES, 112, 112, 3) uint8 RGB: one face of each of so many people."""
    detector = YuNet(test_data / "models" / YUNET.name)
    lines = (test_data / "data" / "lfw" / "pairs.txt").read_text().splitlines()[1:301]
    people = list(dict.fromkeys(line.split("\t")[0] for line in lines))[:NUM_FACES]
    photographs = [test_data / "data" / "lfw" / name / f"{name}_0001.jpg" for name in people]
    return np.array([crop_face(path, detector, (112, 112), "central") for path in photographs])


def test_embeddings_are_those_of_the_file(sface_file, crops, tmp_path) -> None:
    assert len(crops) == NUM_FACES
    network = create_model("LMobileNetE", embedding_dim=128).eval()
    report = load_weights(network, sface_file)
    assert (report.loaded, report.input.mean, report.input.std, report.input.colour) == (172, 127.5, 128.0, "rgb")
    file = faceprint.load(sface_file, {"mean": "0", "std": "1"})
    with torch.inference_mode():
        raw = network(torch.from_numpy(report.input.prepare(crops))).numpy()
    found = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    assert np.abs(found - file.embed(crops)).max() < 1e-4

    import_weights(sface_file, tmp_path / "sface", network="LMobileNetE", embedding_dim=128, licence="Apache-2.0")
    np.testing.assert_allclose(faceprint.load(tmp_path / "sface").embed(crops), file.embed(crops), atol=1e-4)
