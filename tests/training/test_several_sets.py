"""Trainings on several sets, from shards and from Parquet."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from faceprint.classifier import Heads
from faceprint.config import Config
from faceprint.data.synthetic import SyntheticFaces
from faceprint.data.write_set import write_set
from faceprint.errors import UserError
from faceprint.recipe import dump, load_config, validate
from faceprint.training.opening import open_run
from faceprint.training.setup import build_trainer

Tiny = Callable[..., Config]
Trained = Callable[[Config], Any]

PARTS = (
    "[{name: a, source: synthetic, identities: 5, images_per_identity: 4},"
    " {name: b, weight: 2, data: {source: synthetic, identities: 3, images_per_identity: 4, seed: 1}}]"
)


def several(tiny: Tiny, classes: str, *more: str) -> Config:
    return tiny("data={source: mixed}", f"data.parts={PARTS}", f"data.classes={classes}", *more)


@pytest.mark.parametrize(("classes", "count"), [("separate", 8), ("by_name", 5), ("heads", 8)])
def test_one_step_of_each_kind(tiny: Tiny, classes: str, count: int) -> None:
    trainer = build_trainer(several(tiny, classes))
    assert (trainer.plan.num_classes, trainer.plan.num_images) == (count, 20 + 24)
    assert isinstance(trainer.classifier, Heads) == (classes == "heads")


def test_heads_go_on_where_they_were_stopped(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    scheduled = ("margin.schedule={margin: [[0, 0.0], [1, 0.4]]}", "checkpoint.every=3", "checkpoint.keep=9")
    run, _, _ = trained(several(tiny, "heads", *scheduled))
    heads = [head.centres.detach().clone() for head in run.trainer.classifier]
    assert [len(centres) for centres in heads] == [5, 3]
    assert len({head.margin.margin for head in run.trainer.classifier}) == 1
    assert next(iter(run.trainer.classifier)).margin.margin > 0
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step_000000006")
    again, _, _ = trained(several(tiny, "heads", *scheduled, "resume=true"))
    for before, head in zip(heads, again.trainer.classifier, strict=True):
        assert torch.equal(before, head.centres)


def test_the_configuration_reads_back(tiny: Tiny, tmp_path: Path) -> None:
    made = several(tiny, "heads")
    (tmp_path / "config.yaml").write_text(dump(made))
    assert load_config(str(tmp_path / "config.yaml")).data == made.data


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("data.parts.0.weight=0", "data.parts.0.weight"),
        ("data.parts.0.pth=x", "unknown key 'data.parts.0.data.pth'.*identities"),
        ("data.parts.0.source=foldr", "nearest: 'folder'"),
        ("data.parts=[]", "at least 1"),
        ("data.parts.1.name=a", "two parts have this name"),
        ("data.classes=head", "nearest: 'heads'"),
        ("sampler={name: pk, images_per_identity: 2}", "weights of data.parts"),
        ("sampler.window=2", "is for data.source=shards"),
    ],
)
def test_mistakes(tiny: Tiny, trained: Trained, change: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        trained(several(tiny, "separate", change))


def test_a_triplet_loss_has_no_heads(tiny: Tiny) -> None:
    with pytest.raises(UserError, match=r"data\.classes=heads is for class centres, and margin\.name=triplet has none"):
        several(tiny, "heads", "margin={name: triplet}", "sampler.name=pk")


@pytest.mark.parametrize("kind", ["shards", "parquet"])
def test_the_order_by_windows_goes_on_exactly(
    tiny: Tiny, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_set(SyntheticFaces(6, 5, size=(32, 32)), tmp_path / "set", kind=kind, workers=1)
    keys = ("sampler.window=1", "checkpoint.every=2", "checkpoint.keep=9")
    base = tiny(*keys).model_dump()
    config = validate({**base, "data": {"source": kind, "path": f"{tmp_path}/set"}})
    run, _, _ = trained(config)
    after = {name: value.clone() for name, value in run.trainer.network.state_dict().items()}
    for step in (4, 6):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"step_{step:09d}")
    resumed = open_run(config.model_copy(update={"resume": True}))
    assert resumed.step == 2
    again, _, _ = trained(config.model_copy(update={"resume": True}))
    for name, value in again.trainer.network.state_dict().items():
        assert torch.equal(value, after[name]), name
