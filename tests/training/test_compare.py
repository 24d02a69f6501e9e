"""`faceprint plot`: what is drawn are the figures that were logged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import pytest
import yaml

from faceprint.errors import UserError
from faceprint.training.compare import PANELS, page, plot_runs, read_runs

figure = pytest.importorskip("matplotlib.figure")
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A run folder with three train records and one evaluation."""

    def write(name: str, lr: float, loss: float, **more: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        keys = {"out": name, "seed": 1, "optimizer": {"lr": lr, "name": "sgd"}, "description": more.get("text", "")}
        (folder / "config.yaml").write_text(yaml.safe_dump(keys))
        records: list[dict[str, Any]] = [
            {
                "kind": "train",
                "step": step,
                "loss": loss - step,
                "learning_rate": lr,
                "samples_per_second": 100.0 * step,
                "gradient_norm": 1.0,
                "embedding_norm": 20.0 + step,
                "target_cosine": step / 10,
                "train_accuracy": 0.1,
                "target_cosine_counts": [0, step, 10, 0],
                "other_cosine_counts": [30, 10, 0, 0],
            }
            for step in (1, 2, 3)
        ]
        accuracies = [(1, 0.9), (2, 0.97), (3, 0.95)]
        records += [
            {"kind": "evaluation", "step": step, "protocol": "bin", "accuracy": value} for step, value in accuracies
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return folder

    return write


def lines(name: str, *folders: Path) -> dict[str, list[tuple[float, float]]]:
    axes = figure.Figure().subplots()
    PANELS[name](axes, read_runs(folders))
    return {str(line.get_label()): list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in axes.lines}


def test_panels_draw_what_was_logged(make: Make) -> None:
    a, b = make("a", 0.1, 40.0), make("b", 0.2, 30.0)
    assert lines("loss", a, b) == {"a": [(1, 39), (2, 38), (3, 37)], "b": [(1, 29), (2, 28), (3, 27)]}
    assert lines("learning_rate", a, b)["b"] == [(1, 0.2), (2, 0.2), (3, 0.2)]
    assert lines("samples_per_second", a)["a"] == [(1, 100), (2, 200), (3, 300)]
    assert lines("embedding_norm", a)["a"] == [(1, 21), (2, 22), (3, 23)]
    assert lines("accuracy", a, b)["b, bin"] == [(1, 0.9), (2, 0.97), (3, 0.95)]
    assert set(lines("accuracy", a)) == {"bin: accuracy", "training batches, without margin"}


def test_distributions_are_shares_of_the_images_in_the_last_tenth(make: Make) -> None:
    axes = figure.Figure().subplots()
    PANELS["cosines"](axes, read_runs([make("a", 0.1, 40.0)]))
    own, other = (patch.get_data() for patch in axes.patches)
    assert list(own.edges) == [-1, -0.5, 0, 0.5, 1]
    assert list(own.values) == pytest.approx([0, 100 * 3 / 13, 100 * 10 / 13, 0])
    assert list(other.values) == [75, 25, 0, 0]


def test_an_older_run_without_some_figures_is_drawn(make: Make) -> None:
    folder = make("a", 0.1, 40.0)
    record = {"kind": "train", "step": 5, "loss": 2.0, "train_accuracy": 0.5}
    (folder / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    assert lines("gradient_norm", folder) == {}
    assert "<svg" in page(read_runs([folder]))


def test_pictures(make: Make, tmp_path: Path) -> None:
    folders = [make("a", 0.1, 40.0), make("b", 0.2, 30.0)]
    sizes: list[tuple[int, ...]] = []
    for name, every in (("two.png", False), ("all.png", True)):
        plot_runs(folders, tmp_path / name, every_figure=every)
        sizes.append(cv2.imread(str(tmp_path / name)).shape[:2])
    assert sizes == [(456, 1200), (912, 2400)]
    with pytest.raises(UserError, match=r"\.png or \.html"):
        plot_runs(folders, tmp_path / "c.pdf")
    with pytest.raises(UserError, match="give a run folder"):
        plot_runs([tmp_path], tmp_path / "c.png")


def test_the_page_stands_alone_and_is_reproducible(make: Make, tmp_path: Path) -> None:
    folders = [make("a", 0.1, 40.0), make("b<script>", 0.2, 30.0, text="</td><img src=http://x>")]
    plot_runs(folders, tmp_path / "c.html")
    text = (tmp_path / "c.html").read_text()
    assert len(re.findall("<svg", text)) == len(PANELS) == 8
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(drawing)
    assert not re.search(r"<script|<img|<link|@import|url\(http|(src|href)=\"http", text)
    assert "<td>0.9700 (step 2)</td>" in text
    assert "<td>optimizer.lr</td><td>0.1</td><td>0.2</td>" in text
    assert "optimizer.name" not in text
    assert text == page(read_runs(folders))
    identifiers = [re.findall(r'id="([^"]*)"', drawing) for drawing in re.findall(r"<clipPath.*?>", text)]
    assert len({name for names in identifiers for name in names}) == len(identifiers) >= len(PANELS)
