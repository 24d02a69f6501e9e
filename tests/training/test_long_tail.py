"""People with very different numbers of images, from configuration to training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from faceprint.config import Config
from faceprint.data.synthetic import SyntheticFaces
from faceprint.errors import UserError
from faceprint.training.batches import build_order
from faceprint.training.setup import build_trainer

Tiny = Callable[..., Config]


@pytest.fixture
def people(tmp_path: Path) -> str:
    """Three people with 1, 2 and 9 images."""
    faces = SyntheticFaces(3, 9, size=(32, 32))
    for who, count in enumerate((1, 2, 9)):
        for image in range(count):
            path = tmp_path / "people" / str(who) / f"{image}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), faces[9 * who + image][0][..., ::-1])
    return f"data={{source: folder, path: {tmp_path}/people}}"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("{class_weights: inverse, class_weight_power: 1}", [4.0, 2.0, 4 / 9]),
        ("{class_weights: effective, class_weight_beta: 0}", [1.0, 1.0, 1.0]),
    ],
)
def test_class_weights_reach_the_classifier(tiny: Tiny, people: str, keys: str, expected: list[float]) -> None:
    classifier: Any = build_trainer(tiny(people, f"classifier={keys}")).classifier
    assert classifier.class_weights.tolist() == pytest.approx(expected)  # 12 images, and a mean of 1 over them
    assert "class_weights" not in classifier.state_dict()


def test_without_weights_there_are_none(tiny: Tiny, people: str) -> None:
    classifier: Any = build_trainer(tiny(people)).classifier
    assert classifier.class_weights is None


def test_balanced_batches_are_trained_on_and_resumed(
    tiny: Tiny, trained: Callable[[Config], Any], people: str, tmp_path: Path
) -> None:
    changes = [people, "sampler={name: balanced, power: 0}", "classifier.class_weights=inverse"]
    whole = trained(tiny(*changes, f"out={tmp_path}/whole"))[0].trainer
    drawn = [index for batch in build_order(tiny(*changes), whole, 0, 300) for index in batch]
    shares = torch.bincount(torch.from_numpy(whole.source.labels[drawn])) / len(drawn)
    assert (shares - 1 / 3).abs().max() < 0.05
    trained(tiny(*changes, "checkpoint.every=3"))
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step_000000006")
    resumed = trained(tiny(*changes, "checkpoint.every=3", "resume=true"))[0].trainer
    assert torch.equal(resumed.classifier.centres, whole.classifier.centres)


def test_a_loss_without_centres_takes_no_keys_of_the_classifier(tiny: Tiny) -> None:
    with pytest.raises(UserError, match=r"margin\.name=triplet has none"):
        build_trainer(tiny("margin={name: triplet}", "classifier.class_weights=inverse"))
