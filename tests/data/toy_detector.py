"""A working detector of YuNet's form, made on the spot: it takes red 8x8 blocks on the grid for faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
OFFSETS = np.array([(-1.0, -1.0), (1.0, -1.0), (0.0, 0.0), (-0.75, 1.0), (0.75, 1.0)], np.float32)
"""Landmarks of the toy face, in units of 8 pixels from the corner of its block."""


def landmarks_of(column: int, row: int) -> NDArray[np.float64]:
    """Where the toy detector puts the five landmarks for the red block at this place of the 8-pixel grid."""
    return (OFFSETS.astype(np.float64) + np.array([column, row])) * 8


def paint(image: NDArray[np.uint8], column: int, row: int) -> None:
    """Put the toy face there: a red (RGB) block."""
    image[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = (255, 0, 0)


def write_toy_detector(path: Path) -> Path:
    """Inputs and outputs are named and shaped as in YuNet 2023mar: cls, obj, bbox, kps for strides 8, 16, 32."""
    nodes, weights, outputs = [], [], []
    for stride in STRIDES:
        for kind, channels in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            name = f"{kind}_{stride}"
            kernel = np.zeros((channels, 3, stride, stride), np.float32)
            bias = np.zeros(channels, np.float32)
            if stride == 8 and channels == 1:
                kernel[0, 2] = 1 / (255 * 64)  # OpenCV hands over BGR: channel 2 is red
                kernel[0, :2] = -1 / (255 * 64)
            if kind == "bbox":
                bias[:] = 0.5, 0.5, np.log(4), np.log(5)  # centre in the block, 32 x 40 pixels
            if kind == "kps":
                bias[:] = OFFSETS.ravel()
            weights += [numpy_helper.from_array(kernel, f"w_{name}"), numpy_helper.from_array(bias, f"b_{name}")]
            weights.append(numpy_helper.from_array(np.array([1, -1, channels]), f"s_{name}"))
            nodes += [
                helper.make_node(
                    "Conv",
                    ["input", f"w_{name}", f"b_{name}"],
                    [f"c_{name}"],
                    kernel_shape=[stride] * 2,
                    strides=[stride] * 2,
                ),
                helper.make_node("Transpose", [f"c_{name}"], [f"t_{name}"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"t_{name}", f"s_{name}"], [name]),
            ]
    for kind, channels in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
        for stride in STRIDES:
            shape = [1, "cells", channels]
            outputs.append(helper.make_tensor_value_info(f"{kind}_{stride}", TensorProto.FLOAT, shape))
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "height", "width"])
    graph = helper.make_graph(nodes, "toy", [image], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path
