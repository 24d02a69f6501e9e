"""Small ONNX recognisers, built node by node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DIM = 5


def weights(channels: int = 3) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(D, channels): the whole network is a matrix on the mean pixel of each channel."""
    return np.random.default_rng(2).normal(size=(DIM, channels)).astype(np.float32)


def value(name: str, shape: list[Any], kind: int = TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def mean_network(
    batch: Any = "N", size: list[Any] | None = None, *, weights_as_inputs: bool = False
) -> onnx.ModelProto:
    """(batch, 3, *size) -> (batch, D): `weights()` times the mean pixel."""
    inputs = [value("data", [batch, 3, *(size or [8, 6])])]
    matrix = numpy_helper.from_array(weights(), "w")
    if weights_as_inputs:
        inputs.append(value("w", [DIM, 3]))
    nodes = [
        helper.make_node("GlobalAveragePool", ["data"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["fc1"], transB=1),
    ]
    return model(nodes, inputs, [value("fc1", [batch, DIM])], [matrix])


def model(nodes, inputs, outputs, initializers=(), opset: int = 13) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def write(path: Path, content: onnx.ModelProto) -> Path:
    path.write_bytes(content.SerializeToString())
    return path
