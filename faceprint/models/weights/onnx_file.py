"""Weights, eps of norms and preprocessing out of an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.models.weights.checkpoint import Checkpoint
from faceprint.onnx_extra import require

if TYPE_CHECKING:
    import onnx

_ARITHMETIC = ("Add", "Sub", "Mul", "Div")


def read_onnx(path: Path) -> Checkpoint:
    """The weights of the file: its initializers but for single numbers that its arithmetic takes, and shapes.

    Raises `UserError` where it is damaged or keeps its weights in other files.
    """
    graph = _parse(path).graph
    tensors = {tensor.name: _tensor(tensor, path) for tensor in graph.initializer}
    norms = [node for node in graph.node if node.op_type == "BatchNormalization" and len(node.input) > 1]
    eps = {node.input[1]: _attribute(node, "epsilon", 1e-5) for node in norms}
    others = _numbers(graph, tensors)
    weights = {name: tensor for name, tensor in tensors.items() if name not in others}
    return Checkpoint(tensors=weights, eps=eps, input=_preprocessing(graph, tensors, path))


def _numbers(graph: onnx.GraphProto, tensors: Mapping[str, Tensor]) -> set[str]:
    """Names of what the graph computes with and no layer has learned: scales, shifts and shapes."""
    taken = [
        (node.op_type, name)
        for node in graph.node
        if node.op_type in _ARITHMETIC or node.op_type == "Reshape"
        for name in node.input
        if name in tensors
    ]
    return {name for kind, name in taken if kind == "Reshape" or tensors[name].numel() == 1}


def _parse(path: Path) -> onnx.ModelProto:
    onnx_module = require("onnx")
    try:
        return onnx_module.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # protobuf's DecodeError is another class in each of its releases
        raise UserError(f"{path}: not an ONNX file ({' '.join(str(error).split())[:200]})") from error


def _tensor(tensor: onnx.TensorProto, path: Path) -> Tensor:
    helper: Any = require("onnx.numpy_helper")
    if tensor.data_location == tensor.EXTERNAL:
        raise UserError(f"{path}: {tensor.name[:80]!r} is kept in another file; give one file with all weights in it")
    try:
        return torch.from_numpy(helper.to_array(tensor).copy())
    except Exception as error:  # dims that do not fit the data, types that torch does not have
        raise UserError(f"{path}: {tensor.name[:80]!r} is damaged ({' '.join(str(error).split())[:200]})") from error


def _attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    return next((attribute.f for attribute in node.attribute if attribute.name == name), default)


def _preprocessing(graph: onnx.GraphProto, tensors: Mapping[str, Tensor], path: Path) -> InputSpec | None:
    """What the Sub and Mul between the image and the first layer amount to, None where there are none."""
    scale, shift, found = 1.0, 0.0, False
    value = next((entry.name for entry in graph.input if entry.name not in tensors), None)
    for node in graph.node:
        output = next(iter(node.output), None)
        if node.op_type == "Identity" and list(node.input) == [value]:
            value = output
            continue
        number = tensors.get(node.input[1]) if len(node.input) == 2 and node.input[0] == value else None
        if node.op_type not in ("Sub", "Mul") or number is None or number.numel() != 1:
            break
        if node.op_type == "Sub":
            shift -= number.item()
        else:
            scale, shift = scale * number.item(), shift * number.item()
        found, value = True, output
    if not found:
        return None
    if scale == 0:
        raise UserError(f"{path}: multiplies its input by 0")
    return InputSpec(mean=(0.0 - shift) / scale, std=1 / scale)
