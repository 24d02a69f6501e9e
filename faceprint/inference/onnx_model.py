"""Any ONNX recogniser as a function from network input to raw embeddings, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprint.cores import num_cores
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.inference.input_overrides import DEFAULTS, parse_overrides, refuse_contradiction
from faceprint.inference.model_card import ModelCard, parse_card
from faceprint.inference.onnx_graph import Graph, read_graph
from faceprint.inference.onnx_rewrite import split_prelu
from faceprint.inference.parallel import side_by_side
from faceprint.onnx_extra import require, session_options

Floats = NDArray[np.float32]
_IMAGES_A_CALL = 4
_IMAGES_A_CALL_ON_GPU = 256


@dataclass(frozen=True, eq=False, kw_only=True)
class OnnxNetwork:
    """`features`: float32 (B, 3, H, W), prepared as `input` says -> raw embeddings float32 (B, D = `embedding_dim`).

    `card` is that of our own exported files, None for foreign ones. `files` are the ONNX file and those of its weights.
    """

    features: Callable[[Floats], Floats]
    input: InputSpec
    embedding_dim: int
    card: ModelCard | None
    files: tuple[Path, ...]
    on_cpu: bool


def open_onnx(path: Path, overrides: Mapping[str, str], device: str = "auto") -> OnnxNetwork:
    """Open an ONNX file; `overrides` are the texts of `load`. Raises `UserError`, as `read_graph` does too.

    A file of fixed batch size is run in batches of that size. `device`: auto, cpu or cuda.
    """
    graph = read_graph(path)
    card = parse_card(graph.card, f"{path}: metadata") if graph.card is not None else None
    spec = _input_spec(graph, card, overrides, path)
    on_cpu, session = _open_session(graph, path, device)
    largest = graph.batch or (_IMAGES_A_CALL if on_cpu else _IMAGES_A_CALL_ON_GPU)
    features = side_by_side(_runner(session, graph), threads=num_cores() if on_cpu else 1, largest=largest)
    dim = _probe(features, spec, path)
    if card is not None and card.embedding_dim != dim:
        raise UserError(f"{path}: gives embeddings of {dim} dimensions, its metadata says {card.embedding_dim}")
    return OnnxNetwork(
        features=features, input=spec, embedding_dim=dim, card=card, files=(path, *graph.weights), on_cpu=on_cpu
    )


def _input_spec(graph: Graph, card: ModelCard | None, overrides: Mapping[str, str], path: Path) -> InputSpec:
    if card is not None:
        refuse_contradiction(overrides, card.input, str(path))
        spec = card.input
    else:
        spec = replace(DEFAULTS, **{"size": graph.size or DEFAULTS.size, **parse_overrides(overrides)})
    if graph.size and graph.size != spec.size:
        taken, said = ("x".join(map(str, size)) for size in (graph.size, spec.size))
        raise UserError(f"{path}: takes images of {taken} (height x width), not {said} as input.size says")
    return spec


def _open_session(graph: Graph, path: Path, device: str) -> tuple[bool, Any]:
    """(whether it runs on the CPU, an onnxruntime session)."""
    runtime = require("onnxruntime")
    cuda = "CUDAExecutionProvider" in runtime.get_available_providers()
    if device not in ("auto", "cpu", "cuda") or (device == "cuda" and not cuda):
        there = "auto, cpu" + (", cuda" if cuda else "; cuda needs the package onnxruntime-gpu")
        raise UserError(f"device {device!r} is not available for ONNX files; available: {there}")
    on_cpu = device == "cpu" or not cuda
    options = session_options(1 if on_cpu else 0)  # the calls run side by side
    providers = ["CPUExecutionProvider"] if on_cpu else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    try:
        if on_cpu:
            split_prelu(graph.model)
        return on_cpu, runtime.InferenceSession(
            graph.model.SerializeToString(), options, providers=providers, enable_fallback=0
        )
    except Exception as error:  # onnxruntime's exceptions share no class of their own, nor do protobuf's
        raise UserError(f"{path}: onnxruntime {runtime.__version__} cannot run it: {_line(error)}") from error


def _runner(session: Any, graph: Graph) -> Callable[[Floats], Floats]:
    """One call of the session: any B up to its batch size, where that is fixed."""

    def run(images: Floats) -> Floats:
        count = len(images)
        if graph.batch and count < graph.batch:
            images = np.concatenate([images, np.zeros((graph.batch - count, *images.shape[1:]), np.float32)])
        return np.asarray(session.run([graph.output_name], {graph.input_name: images})[0], np.float32)[:count]

    return run


def _probe(features: Callable[[Floats], Floats], spec: InputSpec, path: Path) -> int:
    """Run one grey image; the embedding's dimensions."""
    image = spec.prepare(np.full((1, *spec.size, 3), 128, np.uint8))
    try:
        embedding = features(image)
    except Exception as error:  # as in `_open_session`
        raise UserError(f"{path}: fails on an image of {spec.size[0]}x{spec.size[1]}: {_line(error)}") from error
    if embedding.ndim != 2 or len(embedding) != 1:
        raise UserError(f"{path}: gives {embedding.shape} for one image, not an embedding (1, D)")
    return embedding.shape[1]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
