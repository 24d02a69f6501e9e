"""Train with SN, harden, go on, compare: the commands of the how-to, on a network small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from faceprint.cli import app

SMALL = """
data: {source: synthetic, identities: 6, images_per_identity: 5}
network: {name: ResNet50+SYNCSN, embedding_dim: 8, image_size: [32, 32], options: {units: [1, 1, 1, 1]}}
margin: {name: cosface, options: {scale: 16, margin: 0.1}}
classifier: {sample_rate: 0.7, update: dense}
loader: {workers: 0}
batch_size: 8
epochs: 1
optimizer: {lr: 0.05}
log: {every: 1}
device: cpu
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "sn.yaml").write_text(SMALL)
    assert invoke("train", str(tmp_path / "sn.yaml"), f"out={tmp_path}/run") == 0
    return tmp_path / "run"


def test_the_shares_can_be_read_in_80_columns(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["harden", str(run), "--output", str(tmp_path / "hard")], env={"COLUMNS": "80"})
    (row,) = [line for line in result.stdout.splitlines() if "backbone.layer1.0.downsample.1" in line]
    _, layer, mean, variance, *_ = (cell.strip() for cell in row.split("│"))
    assert layer == "backbone.layer1.0.downsample.1"
    for shares in (mean, variance):
        assert len(shares.split()) == 3
        assert abs(sum(map(int, shares.split())) - 100) <= 1


def invoke(*arguments: str) -> int:
    result = CliRunner().invoke(app, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code


def test_harden_fine_tune_and_compare(run: Path, tmp_path: Path) -> None:
    hard, result = tmp_path / "hard", tmp_path / "shares.json"
    assert (
        invoke("harden", str(run), "--output", str(hard), "--plot", str(tmp_path / "s.png"), "--json", str(result)) == 0
    )
    layers = json.loads(result.read_text())["layers"]
    assert len(layers) == 1 + 4 * 4 + 1
    assert all(abs(sum(layer["mean"]) - 1) < 1e-5 and layer["becomes"] for layer in layers)
    assert (tmp_path / "s.png").stat().st_size > 10_000
    fine = tmp_path / "fine"
    assert invoke("train", str(hard / "finetune.yaml"), f"out={fine}", "epochs=1", "schedule.milestones=[0.5]") == 0
    records = [json.loads(line) for line in (fine / "metrics.jsonl").read_text().splitlines()]
    assert records[0]["active_classes"] >= 4
    assert records[0]["learning_rate"] == pytest.approx(1e-3)
    assert records[-1]["learning_rate"] == pytest.approx(1e-4)
    assert invoke("plot", str(run), str(fine), "--output", str(tmp_path / "both.png")) == 0
    assert invoke("export", str(fine), "--output", str(tmp_path / "fine.onnx")) == 0
    assert (tmp_path / "both.png").stat().st_size > 10_000
