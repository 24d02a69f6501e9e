from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from faceprint.classifier import estimate
from faceprint.cli import app
from faceprint.config import Config
from faceprint.errors import UserError
from faceprint.recipe import dump
from faceprint.training.setup import build_trainer


def test_training_asks_before_it_builds(tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    free = estimate.free_bytes(torch.device("cpu"))
    assert free is None or free > 2**20
    trainer = build_trainer(tiny())
    assert trainer.head is not None
    assert trainer.head.bytes == 6 * 16 * 4 * 3
    assert 0 < trainer.head.seconds < 1
    # What is timed leaves the weights as they are without it.
    monkeypatch.setattr(estimate.HeadPlan, "seconds", lambda *_: 0.0)  # pyright: ignore
    for name, weight in build_trainer(tiny()).network.state_dict().items():
        assert torch.equal(weight, trainer.network.state_dict()[name]), name
    monkeypatch.setattr(estimate, "free_bytes", lambda device: 100)  # pyright: ignore
    with pytest.raises(UserError, match="6 identities need"):
        build_trainer(tiny())


def test_the_command_says_what_the_centres_take(tiny: Callable[..., Config], tmp_path: Path) -> None:
    recipe, result = tmp_path / "tiny.yaml", tmp_path / "result.json"
    recipe.write_text(dump(tiny("classifier.sample_rate=0.5", "dry_run=true", "steps=1")))
    done = CliRunner().invoke(app, ["train", str(recipe), "--json", str(result)])
    assert done.exit_code == 0, done.output
    assert re.search(
        r"class centres take 0 MiB and about \d+\.\d ms a step \(classifier.sample_rate=0.5 of", done.stderr
    )
    head = json.loads(result.read_text())["head_estimate"]
    assert head["bytes"] == 6 * 16 * 4 * 2.5
    assert head["seconds"] > 0
