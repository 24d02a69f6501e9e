"""`LMobileNetE` of 128 dimensions against the published network: the same layers, with its weights the same output."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from faceprint.models import create_model

pytestmark = pytest.mark.real

KINDS = {
    "conv2d_weight": "0.weight",
    "batchnorm_gamma": "1.weight",
    "batchnorm_beta": "1.bias",
    "batchnorm_moving_mean": "1.running_mean",
    "batchnorm_moving_var": "1.running_var",
    "relu_gamma": "2.weight",
}
HEAD = {"bn1": "output.norm", "fc1": "output.features", "pre_fc1": "output.fc"}
KINDS_IN_HEAD = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
    "weight": "weight",
    "bias": "bias",
}


def our_name(stored: str) -> str:
    in_body = re.fullmatch(r"(conv_\d+(?:_dw)?)_(\w+)", stored)
    if in_body:
        return f"backbone.{in_body[1]}.{KINDS[in_body[2]]}"
    in_head = re.fullmatch(r"(bn1|pre_fc1|fc1)_(\w+)", stored)
    assert in_head, stored
    return f"{HEAD[in_head[1]]}.{KINDS_IN_HEAD[in_head[2]]}"


def test_lmobilenet_e_is_the_network_of_sface(test_data) -> None:
    path = test_data / "models" / "face_recognition_sface_2021dec.onnx"
    stored = {
        our_name(tensor.name): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in onnx.load(path).graph.initializer
        if not tensor.name.startswith("scalar_op")
    }
    network = create_model("LMobileNetE", embedding_dim=128).eval()
    learned = {name for name, _ in network.named_parameters()}
    assert learned <= set(stored)
    assert sum(stored[name].numel() for name in learned) == sum(weight.numel() for weight in network.parameters())
    counters = {name for name in network.state_dict() if name.endswith("num_batches_tracked")}
    assert set(stored) == set(network.state_dict()) - counters

    slopes = {name: value.flatten() for name, value in stored.items() if value.shape[1:] == (1, 1) and value.ndim == 3}
    network.load_state_dict({**stored, **slopes, **{name: torch.tensor(0) for name in counters}})
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, 112, 112)).astype(np.float32)
    expected = np.concatenate([session.run(None, {"data": image[None]})[0] for image in pixels])
    with torch.no_grad():
        found = network((torch.from_numpy(pixels) - 127.5) / 128).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
