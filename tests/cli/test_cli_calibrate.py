"""`faceprint calibrate`: stores the threshold with the model, and `verify` uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from faceprint import create_model
from faceprint.cli import app
from faceprint.data.synthetic import SyntheticFaces
from faceprint.data.write_set import write_set
from faceprint.errors import UserError
from faceprint.inference.model_folder import ModelCard, save_model

PAIRS = ["synthetic", "num_identities=20", "images_per_identity=4", "num_pairs=130", "difficulty=0.2", "size=112x112"]


def run(*arguments: object):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def faces(tmp_path: Path) -> list[Path]:
    write_set(SyntheticFaces(2, 1, difficulty=0.2), tmp_path / "faces", kind="folder")
    return sorted((tmp_path / "faces").rglob("*.png"))


def small_onnx(path: Path) -> Path:
    """An embedding that is the image made small; no card."""
    nodes = [
        helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[14, 14], strides=[14, 14]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    shapes = (("x", ["N", 3, 112, 112]), ("y", ["N", 192]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"author": "somebody"})
    onnx.save(model, path)
    return path


def test_an_onnx_file_gets_a_copy(tmp_path: Path, faces: list[Path]) -> None:
    model, copy, result = small_onnx(tmp_path / "m.onnx"), tmp_path / "c.onnx", tmp_path / "r.json"
    before = model.read_bytes()
    shown = run("calibrate", model, *PAIRS, "input.std=100", "--far", "0.1", "--output", copy, "--json", result)
    found = json.loads(result.read_text())
    assert "rule of 3 only" in shown.stdout
    assert model.read_bytes() == before
    assert {entry.key: entry.value for entry in onnx.load(copy).metadata_props}["author"] == "somebody"
    assert found["false_accepts"] == 6  # of 65
    answer = json.loads(run("verify", copy, *faces, "--json", "-").stdout)
    assert answer["threshold"] == found["threshold"]
    assert (answer["calibrated_far"], answer["same"]) == (0.1, answer["similarity"] > found["threshold"])
    assert "(FAR 0.1 on 65 pairs)" in run("verify", copy, *faces).stdout
    assert "FAR" not in run("verify", copy, *faces, "--threshold", "0.3").stdout
    other = json.loads(run("verify", model, *faces, "--input", "std=100", "--json", "-").stdout)
    assert answer["similarity"] == pytest.approx(other["similarity"], abs=1e-6)  # the copy knows its input


def test_a_model_folder_is_changed(tmp_path: Path, faces: list[Path]) -> None:
    card = ModelCard(architecture="mbf", embedding_dim=16, licence="test", provenance={"data": "noise"})
    save_model(tmp_path / "run" / "model", create_model("mbf", embedding_dim=16), card)
    run("calibrate", tmp_path / "run", *PAIRS, "--far", "0.1", "flip=true")
    stored = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert stored["provenance"] == {"data": "noise"}
    assert stored["calibration"]["far"] == 0.1
    assert stored["calibration"]["flip"] is True
    flipped = json.loads(run("verify", tmp_path / "run", *faces, "--json", "-").stdout)
    assert flipped["threshold"] == stored["threshold"]
    plain = json.loads(run("verify", tmp_path / "run", *faces, "--no-flip", "--threshold", "0", "--json", "-").stdout)
    assert not np.isclose(flipped["similarity"], plain["similarity"], atol=1e-9)
    with pytest.raises(UserError, match="calibrated with --flip"):
        run("verify", tmp_path / "run", *faces, "--no-flip")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL", *PAIRS, "--output", "OUT", "--far", "1e-3"], "65 pairs of different people can't support FAR 0.001"),
        (["MODEL", *PAIRS], "give --output FILE.onnx"),
        (["MODEL", *PAIRS, "--output", "x.txt"], "ends in .onnx"),
        (["MODEL", "ijbc", "--output", "OUT"], "calibrate takes pairs"),
        (["MODEL", *PAIRS, "--output", "OUT", "--far", "0"], "above 0"),
        (["MODEL", *PAIRS, "--output", "OUT", "plot=a.png"], "plot belongs to"),
        (["nowhere.npz", *PAIRS, "--output", "OUT", "--far", "0.1"], "nowhere.npz: a threshold is stored with"),
    ],
)
def test_mistakes_store_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    model = small_onnx(tmp_path / "m.onnx")
    places = {"MODEL": str(model), "OUT": str(tmp_path / "c.onnx")}
    with pytest.raises(UserError, match=message):
        run("calibrate", *(places.get(argument, argument) for argument in arguments))
    assert not (tmp_path / "c.onnx").exists()


def test_exit_status(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "faceprint", "calibrate", str(tmp_path / "absent.onnx"), *PAIRS, "--far", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
