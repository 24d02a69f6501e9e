"""The zoo measured again: a pretrained model is found by its name, ours stands beside the published figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
import typer
from typer.testing import CliRunner

from faceprint.cli.evaluate import evaluate
from faceprint.cli.report import report
from faceprint.data import write_bin
from faceprint.errors import UserError
from faceprint.evaluation.pairs import synthetic_pairs
from faceprint.evaluation.result import read_result
from faceprint.inference.model_folder import ModelCard, save_model
from faceprint.models import create_model
from faceprint.recipe import load_config
from faceprint.training.pretrained import find_pretrained, open_pretrained

RECIPE = "pytorch_face_recognition/mobilefacenet"
app = typer.Typer()
app.command("eval")(evaluate)
app.command("report")(report)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`lfw.bin` of generated people, and a tiny network in the place of the recipe's model."""
    folder = tmp_path_factory.mktemp("zoo")
    pairs = synthetic_pairs(10, 2, 20, difficulty=0.2)
    numbers = [int(i) for pair in zip(pairs.first, pairs.second, strict=True) for i in pair]
    images = [cv2.imencode(".png", cv2.cvtColor(pairs.read(i), cv2.COLOR_RGB2BGR))[1].tobytes() for i in numbers]
    (folder / "data" / "megaface").mkdir(parents=True)
    write_bin(folder / "data" / "lfw.bin", images, pairs.same)
    torch.manual_seed(0)
    network = create_model("mbf", embedding_dim=16, image_size=(112, 112), scale=1, width=0.125)
    options = {"scale": 1, "width": 0.125}
    card = ModelCard(architecture="mbf", options=options, embedding_dim=16, licence="CC0-1.0")
    save_model(folder / "models" / RECIPE, network.eval(), card)
    return folder


def test_ours_beside_the_published_figures(folder: Path) -> None:
    keys = [f"data={folder}/data", f"models={folder}/models"]
    done = run("eval", RECIPE, *keys, "--json", f"{folder}/one.json")
    assert done.exit_code == 0, done.output
    assert "99.3333 %" in done.stdout
    assert "CC0-1.0" in done.stdout
    alone = run("eval", f"{folder}/models/{RECIPE}", "bin", f"path={folder}/data/lfw.bin", "--json", f"{folder}/b.json")
    assert alone.exit_code == 0, alone.output
    expected = read_result(folder / "b.json").figures[0]
    (row,) = json.loads((folder / "one.json").read_text())["rows"]
    assert row["content_hash"].startswith("sha256:")
    by_test = {f"{score['protocol']} {score['metric']}": score for score in row["scores"]}
    lfw = by_test["LFW accuracy"]
    assert (lfw["published"], lfw["ours"]) == (99.3333, pytest.approx(100 * expected.value))
    assert by_test["CFP-FP accuracy"]["note"] == "no data"
    assert by_test["MegaFace rank-1"]["note"].startswith("not measured")


def test_all_rows_with_what_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEPRINT_MODELS", str(folder / "models"))
    done = run("eval", "all", f"data={folder}/data", "--json", f"{folder}/all.json")
    assert done.exit_code == 0, done.output
    assert "arcface_torch/r50" in done.stderr
    result = read_result(folder / "all.json")
    assert [each.recipe for each in result.each] == [RECIPE]
    made = run("report", f"{folder}/all.json", "--latex", f"{folder}/paper")
    assert made.exit_code == 0, made.output
    text = (folder / "paper" / "comparison.tex").read_text()
    assert "99.33" in text
    assert "(published)" in text


def test_mistakes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACEPRINT_MODELS", raising=False)
    data, models = f"data={folder}/data", f"models={folder}/models"
    for arguments, said in (
        ([RECIPE, models], "needs data="),
        ([RECIPE, data], "set FACEPRINT_MODELS"),
        (["arcface_torch/r50", data, models], r"no model of arcface_torch/r50; looked for .*r50\.onnx"),
        (["arcface_torch/r5", data, models], "unknown recipe"),
        ([RECIPE, data, models, "sets=lfw"], "unknown key"),
    ):
        with pytest.raises(UserError, match=said):
            raise run("eval", *arguments).exception


def test_bare_weights_go_into_the_network_of_the_recipe(tmp_path: Path) -> None:
    config = load_config("arcface_torch/mobilefacenet")
    network = create_model(config.network.name, embedding_dim=config.network.embedding_dim, image_size=(112, 112))
    path = tmp_path / "arcface_torch_mobilefacenet.pt"
    torch.save(network.state_dict(), path)
    assert find_pretrained("arcface_torch/mobilefacenet", tmp_path) == path
    embedder = open_pretrained(config, path, "cpu")
    assert embedder.name == str(path)
    assert embedder.card is not None
    assert embedder.card.licence == config.licence
