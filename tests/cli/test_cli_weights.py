"""`faceprint import` and `faceprint export --layout`."""

from __future__ import annotations

import json
import os

import pytest
import torch
import typer
from typer.testing import CliRunner

import faceprint
from faceprint.cli.export import export
from faceprint.cli.import_weights import import_weights
from faceprint.errors import UserError
from faceprint.inference.model_folder import load_model
from faceprint.models import export_weights

app = typer.Typer()
app.command("import")(import_weights)
app.command("export")(export)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def weights(tmp_path):
    export_weights(faceprint.create_model("mbf", blocks=(1, 1, 1, 1), embedding_dim=24), tmp_path / "backbone.pt")
    return tmp_path / "backbone.pt"


def test_weights_come_in_and_leave(weights, tmp_path) -> None:
    made = ["--network", "mbf", "--embedding-dim", 24, "--option", "blocks=[1, 1, 1, 1]", "--input", "std=128"]
    result = run("import", weights, *made, "--output", tmp_path / "m", "--licence", "MIT", "--json", "-")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["layout"], report["missing"], report["unexpected"]) == ("arcface_torch/mbf", [], [])
    _, card = load_model(tmp_path / "m")
    assert (card.licence, card.input.std) == ("MIT", 128.0)
    result = run(
        "export", tmp_path / "m", "--layout", "arcface_torch", "--output", tmp_path / "again.pt", "--json", "-"
    )
    assert json.loads(result.stdout)["layout"] == "arcface_torch/mbf"
    again, first = (torch.load(path, weights_only=True) for path in (tmp_path / "again.pt", weights))
    assert all(torch.equal(again[name], first[name]) for name in first)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_mistakes(weights, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="unknown network 'mbg'"):
        run("import", weights, "--network", "mbg", "--output", "m")
    with pytest.raises(UserError, match="does not fit the network"):
        run("import", weights, "--network", "mbf", "--output", "m")
    torch.save({"state_dict": Malicious()}, "bad.pt")
    with pytest.raises(UserError, match="refused, and nothing in it was run"):
        run("import", "bad.pt", "--network", "mbf", "--output", "m")
    assert not (tmp_path / "m").exists()
    assert not (tmp_path / "ran").exists()
