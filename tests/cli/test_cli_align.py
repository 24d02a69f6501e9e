"""`faceprint data align`: its arguments, its table and its JSON, on the toy detector."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from faceprint.cli.data import app
from faceprint.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from toy_detector import paint, write_toy_detector


@pytest.fixture
def folder(tmp_path):
    """`toy.onnx`, and `in` with a face, a photograph without one, and an unreadable one."""
    write_toy_detector(tmp_path / "toy.onnx")
    (tmp_path / "in" / "Ann").mkdir(parents=True)
    image = np.full((96, 96, 3), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "in" / "Ann" / "nobody.png"), image)
    paint(image, 5, 5)
    cv2.imwrite(str(tmp_path / "in" / "Ann" / "1.png"), image[..., ::-1])
    (tmp_path / "in" / "Ann" / "bad.jpg").write_text("no image")
    return tmp_path


def run(folder, *arguments):
    return CliRunner().invoke(
        app,
        [
            "align",
            str(folder / "in"),
            str(folder / "out"),
            "--detector-model",
            str(folder / "toy.onnx"),
            "--no-refine",
            *arguments,
        ],
    )


def test_table_messages_and_crops(folder):
    result = run(folder, "--size", "112x96", "--format", "png", "--workers", "1", "--json", str(folder / "r.json"))
    assert result.exit_code == 0, result.output
    assert cv2.imread(str(folder / "out" / "Ann" / "1.png")).shape == (112, 96, 3)
    counts = {
        cells[1].strip(): cells[2].strip() for line in result.stdout.splitlines() if len(cells := line.split("│")) == 4
    }
    assert [counts[row] for row in ("photographs", "faces cropped", "no face found", "unreadable")] == list("3111")
    assert "no face found: Ann/nobody.png" in result.stderr
    assert "bad.jpg" in result.stderr
    assert "align.json" in result.stderr
    written = json.loads((folder / "r.json").read_text())
    assert (written["found"], written["not_found"]) == (1, ["Ann/nobody.png"])


def test_json_on_standard_output_stands_alone(folder):
    result = run(folder, "--json", "-")
    assert json.loads(result.stdout)["photographs"] == 3


def test_the_detector_is_found_in_the_users_folder(folder, monkeypatch):
    (folder / "models").mkdir()
    (folder / "toy.onnx").rename(folder / "models" / "face_detection_yunet_2023mar.onnx")
    monkeypatch.setenv("FACEPRINT_MODELS", str(folder / "models"))
    result = CliRunner().invoke(app, ["align", str(folder / "in"), str(folder / "out")])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("size", ["112", "x", "112x", "112x-5", "1e2x3", "axb", "11²x9", "112x112x3"])
def test_sizes_that_are_none(folder, size):
    result = run(folder, "--size", size)
    assert isinstance(result.exception, UserError)
    assert "give height x width in pixels, such as 112x112 or 112x96" in str(result.exception)
    assert not (folder / "out").exists()


def test_no_workers_is_a_mistake(folder):
    result = run(folder, "--workers", "0")
    assert isinstance(result.exception, UserError)
    assert "workers 0" in str(result.exception)


def test_only_a_few_names_are_shown(folder):
    image = np.full((96, 96, 3), 90, np.uint8)
    for number in range(9):
        cv2.imwrite(str(folder / "in" / f"{number}.png"), image)
    result = run(folder)
    assert result.stderr.count("no face found: ") == 6
    assert "no face found: and 5 more" in result.stderr
