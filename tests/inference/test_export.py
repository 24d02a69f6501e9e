"""Exported files: equal to the network, whole or not there, and with the card inside."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from small_network import DIM, by_hand, patches, small_network, write_model

import faceprint
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.inference import export as export_module
from faceprint.inference.export import BATCH_SIZES, ExportError, export_onnx
from faceprint.inference.model_folder import load_model


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("batch_size", [1, 2, 7, 16])
def test_the_file_gives_the_embeddings_of_the_network(exported, batch_size):
    """Through onnxruntime alone, fed as the file's documentation says."""
    images = patches(batch_size, exported.spec.size)
    blob = ((images.astype(np.float32) - 127.5) / 127.5).transpose(0, 3, 1, 2)
    session = onnxruntime.InferenceSession(exported.file, providers=["CPUExecutionProvider"])
    (raw,) = session.run(["embedding"], {"input": blob})
    assert (raw.dtype, raw.shape) == (np.float32, (batch_size, DIM))
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, by_hand(small_network(exported.spec.size), images, exported.spec), atol=2e-5)


def test_the_report_says_how_far_they_differ(exported):
    report = exported.report
    assert tuple(report.differences) == BATCH_SIZES == (1, 2, 7)
    assert 0 <= max(report.differences.values()) < 2e-5
    assert report.num_bytes == exported.file.stat().st_size
    assert (report.input_shape, report.embedding_dim) == ((3, *exported.spec.size), DIM)


def test_loaded_again_it_is_the_model(exported):
    images = patches(5, exported.spec.size)
    folder, file = faceprint.load(exported.folder), faceprint.load(exported.file)
    np.testing.assert_allclose(file.embed(images, flip=True), folder.embed(images, flip=True), atol=2e-5)
    assert file.input == InputSpec(size=exported.spec.size)
    assert (file.threshold, file.embedding_dim) == (0.5, DIM)
    assert file.card is not None
    assert folder.card is not None
    assert file.card.model_copy(update={"input": exported.spec}) == folder.card
    with pytest.raises(UserError, match=r"leave it out"):
        faceprint.load(exported.file, {"mean": "0", "std": "1"})


def test_metadata_for_other_programs(exported):
    content = onnx.load(exported.file)
    entries = {entry.key: entry.value for entry in content.metadata_props}
    card = json.loads(entries["faceprint"])
    height, width = exported.spec.size
    assert card["input"] == {"size": [height, width], "colour": "rgb", "mean": 127.5, "std": 127.5}
    assert (card["licence"], card["provenance"]) == ("a licence", {"data": "noise"})
    assert card["content_hash"] == load_model(exported.folder)[1].content_hash
    assert content.producer_name == "faceprint"


def test_the_graph_is_what_other_programs_expect(exported):
    """One input of static size and open batch, one output, no file beside it, nothing that looks like MXNet's
    normalisation (which would make insightface feed 0..255), and no path of the machine it was made on."""
    graph = onnx.load(exported.file).graph
    onnx.checker.check_model(onnx.load(exported.file), full_check=True)
    dims = [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", 3, *exported.spec.size]
    assert ([value.name for value in graph.input], [value.name for value in graph.output]) == (["input"], ["embedding"])
    for prefixes in (("Sub", "_minus"), ("Mul", "_mul")):
        assert not any(node.name.startswith(prefixes) for node in graph.node[:8])
    assert files_below(exported.file.parent) == [
        "run",
        "run/model",
        "run/model/model.json",
        "run/model/model.safetensors",
        "small.onnx",
    ]
    data = exported.file.read_bytes()
    assert str(Path(export_module.__file__).parent.parent.parent).encode() not in data
    assert b"stack_trace" not in data


def test_norms_are_folded(exported):
    operators = {node.op_type for node in onnx.load(exported.file).graph.node}
    assert "BatchNormalization" not in operators
    assert "Conv" in operators


def pretend_to_export(monkeypatch, graph):
    """The exporter gives `graph`: the rest is real, and takes no seconds."""
    monkeypatch.setattr(export_module, "_trace", lambda *_: graph)


def test_too_far_away_nothing_is_written(exported, tmp_path, monkeypatch):
    pretend_to_export(monkeypatch, onnx.load(exported.file))
    (tmp_path / "old.onnx").write_text("kept")
    with pytest.raises(ExportError, match=r"was not written: .* at batch 1, .* at batch 7; 1e-12 is allowed"):
        export_onnx(exported.folder, tmp_path / "old.onnx", tolerance=1e-12)
    assert files_below(tmp_path) == ["old.onnx"]
    assert (tmp_path / "old.onnx").read_text() == "kept"


@pytest.mark.parametrize("damage", ["colours swapped", "one weight", "not a number"])
def test_a_wrong_graph_is_caught(exported, tmp_path, monkeypatch, damage):
    graph = onnx.load(exported.file)
    first = next(node for node in graph.graph.node if node.op_type == "Conv").input[1]
    tensor = next(tensor for tensor in graph.graph.initializer if tensor.name == first)
    weight = numpy_helper.to_array(tensor).copy()
    assert weight.shape[1] == 3
    if damage == "colours swapped":
        weight = weight[:, ::-1].copy()
    else:
        weight[0, 0, 1, 1] = np.nan if damage == "not a number" else weight[0, 0, 1, 1] + 0.05
    tensor.CopyFrom(numpy_helper.from_array(weight, first))
    pretend_to_export(monkeypatch, graph)
    with pytest.raises(ExportError):
        export_onnx(exported.folder, tmp_path / "a.onnx")
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("name", ["a", "a.pt", "folder.onnx", "file/a.onnx"])
def test_outputs_that_cannot_be(exported, tmp_path, name):
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"ends in \.onnx|cannot be written"):
        export_onnx(exported.folder, tmp_path / name)
    assert files_below(tmp_path) == ["file", "folder.onnx"]


def test_what_cannot_be_exported(exported, tmp_path):
    for tolerance in (0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match="above 0"):
            export_onnx(exported.folder, tmp_path / "a.onnx", tolerance=tolerance)
    with pytest.raises(UserError, match="no such folder"):
        export_onnx(tmp_path / "absent", tmp_path / "a.onnx")
    with pytest.raises(UserError, match="a file; give a run folder"):
        export_onnx(exported.file, tmp_path / "a.onnx")


def test_without_the_extra_it_is_named(exported, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"pip install 'faceprint\[onnx\]'"):
        export_onnx(exported.folder, tmp_path / "a.onnx")


def test_it_is_silent_and_leaves_the_logging_alone(tmp_path, capfd):
    level = logging.getLogger("torch.onnx").level
    export_onnx(write_model(tmp_path / "model"), tmp_path / "a.onnx")
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("torch.onnx").level == level
