"""Fine-tuning on other people: known ones keep their centres by name, new ones begin where their images are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

import faceprint
from faceprint.config import Config
from faceprint.data.synthetic import SyntheticFaces
from faceprint.errors import UserError
from faceprint.training.centres import first_images
from faceprint.training.initial import match_names
from faceprint.training.setup import build_trainer

Tiny = Callable[..., Config]
Trained = Callable[[Config], Any]


@pytest.fixture
def old(tiny: Tiny, trained: Trained, tmp_path: Path) -> Any:
    """A run on the generated people 0 to 5."""
    return trained(tiny(f"out={tmp_path}/old"))[0].trainer


def test_the_first_images_of_each() -> None:
    labels = np.array([1, 0, 1, 2, 1, 0, 0])
    assert first_images(labels, np.array([0, 1]), 2).tolist() == [1, 5, 0, 2]
    assert match_names(["a", "b", "c"], ["c", "d", "a"]).tolist() == [2, -1, 0]


def test_centres_go_by_name_and_new_ones_lie_among_their_images(tiny: Tiny, old: Any, tmp_path: Path) -> None:
    assert json.loads((tmp_path / "old" / "classes.json").read_text())[4] == "synthetic-000004"
    # People 4 to 8: two are known, three are new, and four of the old ones are gone.
    config = tiny(f"init_from={tmp_path}/old", "data.first_identity=4", "data.identities=5", "init_images=3")
    trainer = build_trainer(config)
    assert trainer.origin is not None
    assert "2 taken over by name, 3 new, 4 dropped" in trainer.origin
    assert trainer.network.training
    centres: Any = trainer.classifier.centres
    assert torch.equal(centres[:2], old.classifier.centres[4:])
    people = SyntheticFaces(3, 5, size=(32, 32), first_identity=6)
    embedder = faceprint.load(tmp_path / "old")
    length = centres[:2].norm(dim=1).mean().detach()
    for number in range(3):
        embeddings = embedder.embed([people[5 * number + image][0] for image in range(3)])
        expected = functional.normalize(torch.from_numpy(embeddings.mean(0)), dim=0) * length
        assert torch.allclose(centres[2 + number], expected, atol=1e-3 * float(length))


@pytest.mark.parametrize("sub_centers", [1, 2])
def test_every_way_to_begin(tiny: Tiny, old: Any, tmp_path: Path, sub_centers: int) -> None:
    others = [f"init_from={tmp_path}/old", "data.first_identity=5"]
    random = build_trainer(tiny(*others, "init_match=false", "init_images=0"))
    assert torch.equal(random.classifier.centres, build_trainer(tiny("data.first_identity=5")).classifier.centres)  # pyright: ignore
    assert random.origin is not None
    assert "0 taken over by name, 6 new, 6 dropped" in random.origin
    assert "mean embeddings" not in random.origin
    # Weights without centres: everybody is new.
    model = [f"init_from={tmp_path}/old/model", f"classifier.sub_centers={sub_centers}"]
    trainer = build_trainer(tiny(*model))
    assert trainer.origin is not None
    assert "0 taken over by name, 6 new, 0 dropped; new ones begin as mean" in trainer.origin
    centres: Any = trainer.classifier.centres.detach().view(6, sub_centers, -1)  # pyright: ignore
    assert torch.equal(centres[:, 0], centres[:, -1])
    assert float(centres.norm(dim=2).std()) < 1e-5


def test_sub_centres_move_with_their_class(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    first = trained(tiny(f"out={tmp_path}/old", "classifier.sub_centers=2"))[0].trainer.classifier.centres
    others = [f"init_from={tmp_path}/old", "data.first_identity=3", "init_images=1"]
    trainer = build_trainer(tiny(*others, "classifier.sub_centers=2"))
    assert torch.equal(trainer.classifier.centres[:6], first[6:])  # pyright: ignore
    for start in (others, others[:1]):  # other people, and the same ones
        with pytest.raises(UserError, match=r"its class centres are \(12, 16\), expected \(6, 16\)"):
            build_trainer(tiny(*start))


def test_images_that_cannot_be_read_are_counted(tiny: Tiny, old: Any, tmp_path: Path) -> None:
    faces = SyntheticFaces(3, 2, size=(32, 32), first_identity=40)
    for index in range(6):
        path = tmp_path / "people" / f"{faces.class_names[index // 2]}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), faces[index][0][..., ::-1])
    for name in ("2.png", "3.png", "4.png"):
        next((tmp_path / "people").rglob(name)).write_bytes(b"broken")
    data = f"data={{source: folder, path: {tmp_path}/people}}"
    random: Any = build_trainer(tiny(data)).classifier
    trainer = build_trainer(tiny(data, f"init_from={tmp_path}/old"))
    assert trainer.origin is not None
    assert "3 cannot be read; 1 people without any begin as random ones" in trainer.origin
    same = (trainer.classifier.centres == random.centres).all(1)  # pyright: ignore
    assert same.tolist() == [False, True, False]


def test_names_from_outside_are_checked(tiny: Tiny, old: Any, tmp_path: Path) -> None:
    others = tiny(f"init_from={tmp_path}/old", "data.first_identity=4")
    for text, words in (("[1, 2]", "expected a list of class names"), ("[", "not a readable list"), ("{}", "expected")):
        (tmp_path / "old" / "classes.json").write_text(text)
        with pytest.raises(UserError, match=words):
            build_trainer(others)
    (tmp_path / "old" / "classes.json").write_text('["synthetic-000004"]')
    with pytest.raises(UserError, match=r"class centres are \(6, 16\), expected \(1, 16\)"):
        build_trainer(others)
    (tmp_path / "old" / "classes.json").unlink()  # a run of an earlier version
    assert "0 taken over by name, 6 new" in str(build_trainer(others).origin)
    shutil.rmtree(tmp_path / "old" / "checkpoints")
    assert "0 taken over by name, 6 new, 0 dropped" in str(build_trainer(others).origin)


def test_several_sets_are_taken_over_on_the_same_data_only(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    def sets(first: int) -> str:
        parts = ", ".join(
            f"{{name: set{number}, source: synthetic, identities: 4, images_per_identity: 3, first_identity: {number}}}"
            for number in (0, first)
        )
        return f"data={{source: mixed, classes: heads, parts: [{parts}]}}"

    run, _, _ = trained(tiny(sets(100), f"out={tmp_path}/several"))
    again: Any = build_trainer(tiny(sets(100), f"init_from={tmp_path}/several"))
    assert again.origin == f"network and class centres from {tmp_path}/several"
    for head, old in zip(again.classifier, run.trainer.classifier, strict=True):
        assert torch.equal(head.centres, old.centres)
    others = build_trainer(tiny(sets(200), f"init_from={tmp_path}/several"))
    assert "on the same data only" in str(others.origin)
    one = build_trainer(tiny(f"init_from={tmp_path}/several"))
    assert "0 taken over by name, 6 new" in str(one.origin)
