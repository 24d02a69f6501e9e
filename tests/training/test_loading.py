"""Training with the loader's options, and what its augmentation looks like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from faceprint.cli.data_loading import preview as preview_command
from faceprint.config import Config
from faceprint.data.synthetic import SyntheticFaces
from faceprint.data.write_set import write_set
from faceprint.errors import UserError
from faceprint.training import batches, plan
from faceprint.training.batches import build_order
from faceprint.training.open_set import open_set
from faceprint.training.plan import make_plan
from faceprint.training.preview import preview
from faceprint.training.setup import build_trainer

Tiny = Callable[..., Config]


@pytest.mark.parametrize("options", ["{workers: 2, prefetch: 3}", "{workers: 1, cache: encoded}", "{cache: decoded}"])
def test_the_loader_does_not_change_the_training(
    tiny: Tiny, trained: Callable[[Config], Any], tmp_path: Path, options: str
) -> None:
    changes = ["augment.preset=robust", "steps=4"]
    alone, _, _ = trained(tiny(f"out={tmp_path}/alone", *changes))
    other, _, _ = trained(tiny(f"out={tmp_path}/other", f"loader={options}", *changes))
    for name, weight in alone.trainer.network.state_dict().items():
        assert torch.equal(weight, other.trainer.network.state_dict()[name]), name


def test_unreadable_images_are_in_the_metrics(tiny: Tiny, trained: Callable[[Config], Any], tmp_path: Path) -> None:
    write_set(SyntheticFaces(6, 5, size=(32, 32)), tmp_path / "people", kind="folder")
    next((tmp_path / "people").rglob("*_0003.png")).write_bytes(b"broken")
    data = f"data={{source: folder, path: {tmp_path}/people}}"
    _, outcome, records = trained(tiny(data, "loader={workers: 2, max_unreadable: 0.1}", "steps=8"))
    assert [record["unreadable_images"] for record in records][-1] == 1  # counted once in two epochs
    assert len(outcome.unreadable) == 1
    with pytest.raises(UserError, match="1 of 30 images cannot be read"):
        trained(tiny(data, "loader={workers: 2, max_unreadable: 0.02}", "steps=8", f"out={tmp_path}/strict"))


def test_the_device_decoder_needs_cuda(tiny: Tiny, trained: Callable[[Config], Any]) -> None:
    with pytest.raises(UserError, match="needs CUDA"):
        trained(tiny("loader.decoder=nvimagecodec"))


@pytest.mark.parametrize("sampler", ["shuffle", "pk"])
def test_processes_share_the_global_batch_of_one(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, sampler: str) -> None:
    config = tiny("accumulate=4", f"sampler.name={sampler}")
    trainer = build_trainer(config)
    alone = list(build_order(config, trainer, 4, 8))
    assert make_plan(config, trainer.source).global_batch == 32
    shared = tiny("accumulate=2", f"sampler.name={sampler}")
    for module in (plan, batches):
        monkeypatch.setattr(module, "world_size", lambda: 2)
    assert make_plan(shared, trainer.source).global_batch == 32
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(batches, "rank", lambda rank=rank: rank)
        parts.append(list(build_order(shared, trainer, 2, 4)))
    assert [parts[rank][part] for part in (0, 1) for rank in (0, 1)] == alone


def test_the_sheet_shows_faces_then_training_then_each_part_alone(tmp_path: Path) -> None:
    write_set(SyntheticFaces(3, 4, size=(64, 48)), tmp_path / "crops", kind="folder")
    output = tmp_path / "sheet.png"
    preview_command(str(tmp_path / "crops"), output, ["augment={flip: 1.0, grey: 0.2}"])
    sheet = cv2.imread(str(output), cv2.IMREAD_COLOR_RGB)
    assert sheet.shape == ((1 + 4 + 2) * 70 + 6, 128 + 9 * 54, 3)  # as they are, four draws, flip and grey
    first = SyntheticFaces(3, 4, size=(64, 48))[0][0]
    rows = [sheet[70 * row + 6 : 70 * row + 70, 128 : 128 + 48] for row in range(7)]
    assert (rows[0] == first).all()
    assert (rows[5] == first[:, ::-1]).all()
    assert (np.ptp(rows[6].astype(int), axis=2) <= 0).all()


def test_the_sheet_of_a_recipe_and_of_nothing(tmp_path: Path) -> None:
    sheet, config = preview("quickstart", ["augment.preset=adaface"])
    assert config.augment.crop == 0.2
    assert sheet.shape[0] == (1 + 4 + 4) * 118 + 6  # flip, crop, low resolution, photometric
    with pytest.raises(UserError, match="no such file or folder"):
        preview(str(tmp_path / "absent"), [])
    for mistaken in (lambda: preview("quickstrat", []), lambda: open_set("quickstrat")):
        with pytest.raises(UserError, match="did you mean the recipe quickstart"):
            mistaken()
