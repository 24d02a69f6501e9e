"""The programs that users already have get our embeddings out of our files: insightface's ArcFaceONNX, OpenCV's dnn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from small_network import DIM, patches

import faceprint


@pytest.fixture(scope="module")
def arcface_onnx():
    """insightface's class for recognisers; `requirements-interop.txt` installs it."""
    module = pytest.importorskip(
        "insightface.model_zoo.arcface_onnx", reason="pip install --no-deps -r requirements-interop.txt"
    )
    return module.ArcFaceONNX


def unit(raw):
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def bgr(images):
    return [np.ascontiguousarray(image[..., ::-1]) for image in images]


@pytest.mark.parametrize("count", [1, 4])
def test_arcface_onnx_of_insightface(arcface_onnx, exported, count):
    images = patches(count, exported.spec.size)
    theirs = arcface_onnx(model_file=str(exported.file))
    theirs.prepare(ctx_id=-1)
    height, width = exported.spec.size
    assert (theirs.input_mean, theirs.input_std, theirs.input_size) == (127.5, 127.5, (width, height))
    found = theirs.get_feat(bgr(images))
    assert found.shape == (count, DIM)
    for model in (exported.folder, exported.file):
        np.testing.assert_allclose(unit(found), faceprint.load(model).embed(images), atol=1e-4)


@pytest.mark.parametrize("count", [1, 4])
def test_dnn_of_opencv(exported, count):
    images = patches(count, exported.spec.size)
    height, width = exported.spec.size
    network = cv2.dnn.readNetFromONNX(str(exported.file))
    blob = cv2.dnn.blobFromImages(bgr(images), 1 / 127.5, (width, height), (127.5, 127.5, 127.5), swapRB=True)
    network.setInput(blob)
    found = network.forward()
    assert found.shape == (count, DIM)
    np.testing.assert_allclose(unit(found), faceprint.load(exported.folder).embed(images), atol=1e-4)
