"""A model folder to one ONNX file that other programs can use as they use published ones."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceprint import __version__
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.files import write_whole
from faceprint.inference.folding import fold_norms
from faceprint.inference.model_folder import load_model
from faceprint.inference.onnx_graph import METADATA_KEY
from faceprint.inference.output_file import check_output
from faceprint.onnx_extra import require, session_options

if TYPE_CHECKING:
    import onnx

    from faceprint.models import FaceNetwork

BATCH_SIZES = (1, 2, 7)
"""The file is compared with the network at these."""
OPSET = 18
INPUT, OUTPUT = "input", "embedding"


class ExportError(RuntimeError):
    """The file does not compute what the network computes; nothing was written."""


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """`differences`: batch size -> largest absolute difference of a coordinate of the embeddings, of length 1."""

    output: str
    differences: dict[int, float]
    tolerance: float
    num_bytes: int
    opset: int
    input_shape: tuple[int, int, int]
    embedding_dim: int


def export_onnx(
    model: str | os.PathLike[str], output: str | os.PathLike[str], *, tolerance: float = 1e-4
) -> ExportReport:
    """Write the network of a run folder or model folder as ONNX, after comparing the file with it.

    The file takes "input", float32 (N, 3, height, width), N open, RGB, (x - 127.5) / 127.5, whatever the network
    itself was trained on: a difference in colour order, mean or std is made up for inside. That is the input which
    insightface's `ArcFaceONNX` and the usual calls of OpenCV's dnn make. It gives "embedding", float32 (N, D), raw
    (not normalised). Its metadata entry "faceprint" is the model card as JSON, with the input that the file takes.

    The file's bytes are run by onnxruntime on images of coloured patches at each of `BATCH_SIZES`. Raises
    `ExportError` where an embedding, of length 1, differs in a coordinate by more than `tolerance`; `UserError` for
    a model that cannot be read, an output that cannot be written or does not end in .onnx, and missing packages.
    The file is there whole, or not at all.
    """
    target = Path(output)
    check_output(target, ".onnx")
    if not tolerance > 0:
        raise UserError(f"tolerance {tolerance}: must be above 0; 1e-4 is usual")
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module)
    network, card = load_model(model)
    standard = InputSpec(size=card.input.size)
    graph = _trace(_StandardInput(fold_norms(network), card.input).eval(), standard.size)
    _clean(graph)
    _describe(graph, card.model_copy(update={"input": standard}).to_json())
    data = graph.SerializeToString()
    differences = {size: _difference(network, card.input, standard, data, size) for size in BATCH_SIZES}
    if not max(differences.values()) <= tolerance:
        found = ", ".join(f"{difference:.3g} at batch {size}" for size, difference in differences.items())
        raise ExportError(
            f"{output} was not written: its embeddings differ from the network's by {found}; {tolerance:g} is allowed"
        )
    write_whole(target, data)
    return ExportReport(
        output=str(output),
        differences=differences,
        tolerance=tolerance,
        num_bytes=len(data),
        opset=OPSET,
        input_shape=(3, *standard.size),
        embedding_dim=card.embedding_dim,
    )


class _StandardInput(nn.Module):
    """`network`, which takes what `spec` says, behind the input (x - 127.5) / 127.5, RGB.

    (p - mean) / std with p = 127.5 x + 127.5 is scale x + shift.
    """

    def __init__(self, network: FaceNetwork, spec: InputSpec) -> None:
        super().__init__()
        self.network = network
        self.swap = spec.colour == "bgr"
        self.scale = 127.5 / spec.std
        self.shift = (127.5 - spec.mean) / spec.std

    def forward(self, images: Tensor) -> Tensor:
        if self.swap:
            images = torch.cat([images[:, 2:], images[:, 1:2], images[:, :1]], dim=1)
        if (self.scale, self.shift) != (1.0, 0.0):
            images = images * self.scale + self.shift
        return self.network(images)


def _trace(network: nn.Module, size: tuple[int, int]) -> onnx.ModelProto:
    example = torch.zeros(2, 3, *size)
    with _silent():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            verbose=False,
        )
    assert program is not None
    return program.model_proto


@contextmanager
def _silent() -> Generator[None]:
    """The exporter's notes on packages that are not there, and on its own parts, are not for users."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _clean(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes down of itself: paths of this machine's files, twice the size for small networks."""
    graph = model.graph
    for item in [graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        item.doc_string = ""
        del item.metadata_props[:]


def _describe(model: onnx.ModelProto, card: str) -> None:
    model.producer_name, model.producer_version = "faceprint", __version__
    model.graph.name = "faceprint"
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, card


def _difference(network: FaceNetwork, own: InputSpec, standard: InputSpec, data: bytes, batch_size: int) -> float:
    """Largest difference of a coordinate between the unit embeddings of the network and of the file `data`."""
    runtime: Any = require("onnxruntime")
    session = runtime.InferenceSession(data, session_options(1), providers=["CPUExecutionProvider"])
    images = _patches(batch_size, own.size)
    with torch.inference_mode():
        expected = network(torch.from_numpy(own.prepare(images))).numpy()
    (found,) = session.run([OUTPUT], {INPUT: standard.prepare(images)})
    return float(np.abs(_unit(found) - _unit(expected)).max())


def _patches(count: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Images that networks tell apart: uint8 (count, height, width, 3), about 4x4 patches of random colour each.

    Of plain noise they see the mean: all embeddings agree, also those of a file with its colours in another order.
    """
    height, width = size
    side = max(1, min(size) // 4)
    colours = np.random.default_rng(count).integers(0, 256, (count, -(-height // side), -(-width // side), 3), np.uint8)
    return np.ascontiguousarray(colours.repeat(side, axis=1).repeat(side, axis=2)[:, :height, :width])


def _unit(embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = embeddings.astype(np.float64)
    return exact / np.linalg.norm(exact, axis=1, keepdims=True)
