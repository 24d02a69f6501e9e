"""The table for cleaning: its figures by loops, wrong labels first, unreadable images counted."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from faceprint.cli import app
from faceprint.config import Config
from faceprint.data.folder import image_folder
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.inference.embedder import Embedder
from faceprint.training import centres
from faceprint.training.centres import examine, examine_run, nearest_others, whole_identities


def test_parts_hold_whole_identities() -> None:
    labels = np.array([2, 0, 1, 2, 0, 2, 3, 3])
    parts = [part.tolist() for part in whole_identities(labels, 3)]
    assert parts == [[1, 4, 2], [0, 3, 5], [6, 7]]


def test_the_nearest_other_by_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centres, "BLOCK", 4)
    vectors = torch.nn.functional.normalize(torch.randn(11, 5, generator=torch.Generator().manual_seed(0)))
    numbers, cosines = nearest_others(vectors)
    for place in range(11):
        others = {j: float(vectors[place] @ vectors[j]) for j in range(11) if j != place}
        assert numbers[place] == max(others, key=lambda j: others[j])
        assert cosines[place] == pytest.approx(max(others.values()), abs=1e-6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four people of one colour each; dora is anna under another name, and one image of bert is carl."""
    colours = {"anna": (255, 0, 0), "bert": (0, 255, 0), "carl": (0, 0, 255), "dora": (250, 10, 0)}
    for name, colour in colours.items():
        for number in range(3):
            path = tmp_path / "people" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            shown = colours["carl"] if (name, number) == ("bert", 1) else colour
            cv2.imwrite(str(path), np.full((4, 4, 3), shown[::-1], np.uint8))
    return tmp_path / "people"


def colours() -> Embedder:
    """Embeds an image as its mean colour."""
    spec = InputSpec(size=(4, 4), mean=0.0, std=255.0)
    return Embedder(features=lambda x: x.mean((2, 3)) + 0.01, input=spec, embedding_dim=3, name="colours")


def test_wrong_labels_come_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centres, "IMAGES", 4)
    (folder / "carl" / "2.png").write_bytes(b"broken")
    done: list[tuple[int, int]] = []
    table = examine(colours(), image_folder(folder), torch.device("cpu"), lambda *now: done.append(now))
    rows = list(table.rows())
    assert {rows[0].identity, rows[1].identity} == {"anna", "dora"}
    assert {rows[0].nearest_identity, rows[1].nearest_identity} == {"anna", "dora"}
    assert rows[0].nearest_cosine > 0.99
    bert = rows[2]
    assert (bert.identity, bert.images) == ("bert", 3)
    assert bert.worst_image == str(folder / "bert" / "1.png")
    # Two green and one blue: the centre is their sum.
    green, blue = ([0.01, 1.01, 0.01], [0.01, 0.01, 1.01])
    vectors = [np.array(colour) / np.linalg.norm(colour) for colour in (green, blue, green)]
    centre = sum(vectors) / np.linalg.norm(sum(vectors))
    cosines = [float(vector @ centre) for vector in vectors]
    assert bert.mean_cosine == pytest.approx(sum(cosines) / 3, abs=1e-5)
    assert bert.min_cosine == pytest.approx(min(cosines), abs=1e-5)
    assert bert.nearest_cosine == pytest.approx(float(vectors[1] @ centre), abs=1e-5)
    assert rows[3].images == 2
    assert list(table.unreadable) == [str(folder / "carl" / "2.png")]
    assert done[-1] == (12, 12)


def test_an_identity_without_a_readable_image_is_counted(folder: Path) -> None:
    for path in (folder / "carl").iterdir():
        path.write_bytes(b"broken")
    table = examine(colours(), image_folder(folder), torch.device("cpu"))
    assert [row.identity for row in table.rows() if row.identity == "carl" or row.nearest_identity == "carl"] == []
    assert table.images.tolist() == [3, 3, 0, 3]
    for name in ("anna", "bert"):
        for path in (folder / name).iterdir():
            path.write_bytes(b"broken")
    with pytest.raises(UserError, match="fewer than two identities have an image"):
        examine(colours(), image_folder(folder), torch.device("cpu"))


def test_the_command(tiny: Callable[..., Config], trained: Callable[[Config], Any], tmp_path: Path) -> None:
    trained(tiny("steps=2"))
    target = tmp_path / "centres.csv"
    arguments = ["centres", str(tmp_path / "run"), "--output", str(target), "--json", str(tmp_path / "centres.json")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    with target.open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["identity"] for row in rows) == [f"synthetic-{number:06d}" for number in range(6)]
    suspicion = [float(row["mean_cosine"]) - float(row["nearest_cosine"]) for row in rows]
    assert all(a <= b + 2e-4 for a, b in pairwise(suspicion))
    result = json.loads((tmp_path / "centres.json").read_text())
    assert (result["identities"], result["images"], result["unreadable_images"]) == (6, 30, 0)
    with pytest.raises(UserError, match="not a run folder"):
        examine_run(tmp_path, [])
