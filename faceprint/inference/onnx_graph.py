"""ONNX files read with suspicion: what a graph takes and gives, and that it is one that can be run safely."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from faceprint.errors import UserError
from faceprint.inference.onnx_rewrite import drop_weights_from_inputs
from faceprint.onnx_extra import require

if TYPE_CHECKING:
    import onnx

METADATA_KEY = "faceprint"
"""The metadata entry of our own files; it holds a model card as JSON."""

_MAX_BYTES = 2**31 - 1  # of a protocol buffer
_MAX_SIDE = 1024
_MAX_ELEMENTS = 2**28  # of one intermediate value for one image: 1 GiB of float32
_SMALL = 64
_SHOWN = 5
_WANTED_INPUT = "a face recogniser takes one float32 image batch (N, 3, height, width)"


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A checked model and its one image input and one embedding output.

    `model` includes weights from other files, which are `weights`. `batch` is the fixed batch size, None where any
    size is taken; `size` is (height, width), None where open. `card` is the JSON text of our own files.
    """

    model: onnx.ModelProto
    weights: tuple[Path, ...]
    input_name: str
    output_name: str
    batch: int | None
    size: tuple[int, int] | None
    card: str | None


def read_graph(path: Path) -> Graph:
    """Read and check the ONNX file `path`. Raises `UserError` for anything but a recogniser that can be run.

    Taken: one float32 input (batch, 3, height, width) and, among the outputs, one of shape (batch, D) with D above
    1. Refused: weights in files outside the folder, loops, and values beyond 1 GiB an image.
    """
    model, weights = _parse(path)
    try:
        return _inspect(model, weights, path)
    except UserError:
        raise
    except (ValueError, TypeError, KeyError, OverflowError) as error:  # names that are no text, types that are none
        raise UserError(f"{path}: a damaged ONNX file ({' '.join(str(error).split())})") from error


def _inspect(model: onnx.ModelProto, weights: tuple[Path, ...], path: Path) -> Graph:
    drop_weights_from_inputs(model)
    _check_operators(model, path)
    _check_sizes(model, path)
    if len(model.graph.input) != 1:
        raise UserError(f"{path}: {len(model.graph.input)} inputs ({_all(model.graph.input)}); {_WANTED_INPUT}")
    batch, size = _image_input(model.graph.input[0], path)
    return Graph(
        model=model,
        weights=weights,
        input_name=model.graph.input[0].name,
        output_name=_embedding_output(model.graph.output, path),
        batch=batch,
        size=size,
        card={entry.key: entry.value for entry in model.metadata_props}.get(METADATA_KEY),
    )


def _parse(path: Path) -> tuple[onnx.ModelProto, tuple[Path, ...]]:
    """The model with all its weights, and the other files that these are in."""
    onnx = require("onnx")
    helper = require("onnx.external_data_helper")
    if not path.is_file():
        raise UserError(f"{path}: cannot be read (no such file)")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(f"{path}: more than 2 GiB, which no ONNX file can be")
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # protobuf's DecodeError is another class in each of its releases
        raise error if isinstance(error, UserError) else UserError(f"{path}: not an ONNX file ({error})") from error
    if not model.graph.node:
        raise UserError(f"{path}: not an ONNX file, or one with an empty graph")
    try:
        weights = _external_files(model, path.parent)
        helper.load_external_data_for_model(model, str(path.parent))  # refuses places outside that folder
    except Exception as error:  # onnx's own ValidationError, OSError, ValueError
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: its weights in other files cannot be read: {reason}") from error
    return model, weights


def _external_files(model: onnx.ModelProto, folder: Path) -> tuple[Path, ...]:
    """Files of weights. One may be named by many tensors: what they would take together is known before it is read."""
    total, files = 0, set[Path]()
    for tensor in model.graph.initializer:
        places = {entry.key: entry.value for entry in tensor.external_data}
        if places:
            file = folder / os.path.basename(places.get("location", ""))
            files.add(folder / places.get("location", ""))
            total += int(places.get("length", file.stat().st_size if file.is_file() else 0))
    if total > _MAX_BYTES:
        raise UserError("more than 2 GiB")
    return tuple(sorted(files))


def _check_operators(model: onnx.ModelProto, path: Path) -> None:
    """Refuse operators that repeat others: a file could make them run for ever."""
    for node in _nodes([model.graph.node, *(function.node for function in model.functions)]):
        if node.op_type in ("Loop", "Scan"):
            raise UserError(f"{path}: has the operator {node.op_type} ({node.name}); networks with loops are not run")


def _nodes(lists: Iterable[Iterable[onnx.NodeProto]]) -> Iterator[onnx.NodeProto]:
    pending = list(lists)
    while pending:
        for node in pending.pop():
            yield node
            for attribute in node.attribute:
                pending.extend(graph.node for graph in (attribute.g, *attribute.graphs))


def _check_sizes(model: onnx.ModelProto, path: Path) -> None:
    """Refuse a graph with a value too large for memory, as far as its shapes are known beforehand."""
    onnx = require("onnx")
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(model)
    del skeleton.graph.initializer[:]
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            skeleton.graph.initializer.append(tensor)
        else:
            skeleton.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    try:
        graph = onnx.shape_inference.infer_shapes(skeleton, data_prop=True).graph
    except Exception as error:  # several classes; shapes that contradict each other
        raise UserError(f"{path}: its shapes make no sense ({' '.join(str(error).split())[:300]})") from error
    for value in [*graph.value_info, *graph.input, *graph.output]:
        if math.prod(max(1, dim.dim_value) for dim in value.type.tensor_type.shape.dim) > _MAX_ELEMENTS:
            raise UserError(f"{path}: {_describe(value)} does not fit into memory")


def _image_input(value: onnx.ValueInfoProto, path: Path) -> tuple[int | None, tuple[int, int] | None]:
    """(batch or None, (height, width) or None) of an image input."""
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]  # 0 where open
    if len(dims) != 4 or dims[1] not in (0, 3) or value.type.tensor_type.elem_type != require("onnx").TensorProto.FLOAT:
        raise UserError(f"{path}: its input is {_describe(value)}; {_WANTED_INPUT}")
    if min(dims) < 0 or max(dims[2:]) > _MAX_SIDE:
        raise UserError(f"{path}: its input is {_describe(value)}; height and width go to {_MAX_SIDE} pixels")
    return dims[0] or None, (dims[2], dims[3]) if dims[2] and dims[3] else None


def _embedding_output(outputs: Iterable[onnx.ValueInfoProto], path: Path) -> str:
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in outputs}
    flat = [name for name, dims in shapes.items() if len(dims) == 2 and dims[1] != 1]
    unknown = [name for name, dims in shapes.items() if not dims]
    candidates = flat or unknown
    if len(candidates) != 1:
        raise UserError(
            f"{path}: its outputs are {_all(outputs)}; a face recogniser has one of shape (N, D), the embedding"
        )
    return candidates[0]


def _all(values: Iterable[onnx.ValueInfoProto]) -> str:
    described = [_describe(value) for value in values]
    more = f" and {len(described) - _SHOWN} more" if len(described) > _SHOWN else ""
    return (", ".join(described[:_SHOWN]) or "none") + more


def _describe(value: onnx.ValueInfoProto) -> str:
    """ "name float32 (1, 3, 112, 112)"; open dimensions by their names, or "?"."""
    onnx = require("onnx")
    kind = value.type.tensor_type
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)) if kind.elem_type else "?"
    shape = ", ".join(dim.dim_param or str(dim.dim_value or "?") for dim in kind.shape.dim)
    return f"{value.name} {dtype} ({shape})"
