"""Margins, their options and schedules, and the triplet loss, from configuration to training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from faceprint.classifier import PartialFC, TripletLoss
from faceprint.config import Config, MarginConfig
from faceprint.errors import UserError
from faceprint.margins import MARGINS, AdaCos, ElasticFace, UniFace
from faceprint.recipe import load_config
from faceprint.training import guard
from faceprint.training.loop import add_gradients, train
from faceprint.training.losses import LOSSES, build_margin, build_margin_schedule
from faceprint.training.opening import open_run
from faceprint.training.optim import set_options
from faceprint.training.plan import Plan
from faceprint.training.schedule import piecewise_linear
from faceprint.training.setup import build_trainer

Tiny = Callable[..., Config]
Trained = Callable[[Config], Any]

TRIPLET = [
    "margin={name: triplet, options: {margin: 0.4, mining: semi_hard}}",
    "sampler={name: pk, images_per_identity: 2}",
]


def test_the_table_of_losses() -> None:
    assert list(LOSSES) == [*MARGINS, "triplet"]


def test_options_of_every_type() -> None:
    elastic = build_margin("elasticface", {"variant": "cos", "plus": True, "margin": 0.35, "std": 1, "seed": 4}, 10)
    assert isinstance(elastic, ElasticFace)
    assert (elastic.variant, elastic.plus, elastic.std, elastic.seed) == ("cos", True, 1, 4)
    assert isinstance(build_margin("triplet", {"mining": "semi_hard"}, 10), TripletLoss)


def test_margins_that_depend_on_the_number_of_identities_get_it() -> None:
    for name, kind in [("adacos", AdaCos), ("uniface", UniFace)]:
        assert isinstance(build_margin(name, {}, 1000), kind)
        with pytest.raises(UserError, match="unknown option"):
            build_margin(name, {"num_classes": 5}, 1000)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("arcface", {"scale": "big"}, "margin.options.scale: expected a number, got 'big'"),
        ("arcface", {"scale": True}, "expected a number, got True"),
        ("arcface", {"easy_margin": 1}, "margin.options.easy_margin: expected true or false, got 1"),
        ("sphereface", {"margin": 1.5}, "margin.options.margin: expected a whole number, got 1.5"),
        ("mv_softmax", {"variant": "ark"}, r"unknown value of margin.options.variant: 'ark' \(nearest: 'arc'\)"),
        ("mv_softmax", {"variant": ["arc"]}, "unknown value of margin.options.variant"),
        ("triplett", {}, r"unknown margin 'triplett' \(nearest: 'triplet'\)"),
    ],
)
def test_options_of_another_type_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_margin(name, options, 10)


def test_piecewise_linear() -> None:
    points = [(1.0, 2.0), (3.0, 6.0), (4.0, 0.0)]
    values = [piecewise_linear(points, position) for position in (0, 1, 1.5, 2, 3, 3.5, 4, 9)]
    assert values == pytest.approx([2, 2, 3, 4, 6, 3, 0, 0])
    assert piecewise_linear([(2.0, 5.0)], 0) == piecewise_linear([(2.0, 5.0)], 3) == 5.0


def test_a_margin_schedule_counts_epochs() -> None:
    plan = Plan(num_images=100, num_classes=10, global_batch=10, total_steps=100, base_lr=0.1)
    config = MarginConfig(name="arcface", schedule={"margin": [(0, 0.0), (5, 0.5)], "scale": [(2, 16), (4, 64)]})
    at = build_margin_schedule(config, plan)
    assert at(0) == {"margin": 0.0, "scale": 16.0}
    assert at(25) == pytest.approx({"margin": 0.25, "scale": 28.0})
    assert at(90) == {"margin": 0.5, "scale": 64.0}


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("{margn: [[0, 0.1]]}", r"unknown option in margin.schedule of 'arcface' 'margn' \(nearest: 'margin'\)"),
        ("{easy_margin: [[0, 1.0]]}", "unknown option in margin.schedule"),
        ("{margin: [[0, 0.1], [0, 0.2]]}", "the epochs must rise"),
        ("{margin: [[0, 0.1], [5, 3.5]]}", "margin < π"),
        ("{margin: []}", "margin.schedule.margin"),
    ],
)
def test_impossible_schedules_are_refused(tiny: Tiny, schedule: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_run(tiny("margin={name: arcface}", f"margin.schedule={schedule}"))


def test_another_margin_drops_the_schedule_of_the_old_one(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("base: quickstart\nmargin: {schedule: {margin: [[0, 0.0], [1, 0.2]]}}\n")
    assert load_config(str(recipe)).margin.schedule
    assert load_config(str(recipe), ["margin.name=arcface"]).margin == MarginConfig(name="arcface")


SCHEDULED = "margin={name: arcface, options: {scale: 16.0}, schedule: {margin: [[0, 0.0], [1, 0.4]]}}"


def test_the_schedule_is_followed_and_resumed_exactly(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    whole, _, _ = trained(tiny(SCHEDULED, f"out={tmp_path}/whole"))
    # 30 images, batches of 8: the last of 6 steps begins after 40 images.
    assert whole.trainer.margin.margin == pytest.approx(0.4)
    part = open_run(tiny(SCHEDULED))
    for _ in range(3):
        set_options(part.trainer.margin, part.trainer.margin_schedule(part.step))
        part.step += 1
    assert part.trainer.margin.margin == pytest.approx(0.4 * 16 / 30)  # pyright: ignore


@pytest.mark.parametrize("changes", [TRIPLET, [SCHEDULED], ["margin={name: elasticface}"]])
def test_resuming_gives_the_bit_identical_run(
    tiny: Tiny, trained: Trained, tmp_path: Path, changes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _, _ = trained(tiny(*changes, f"out={tmp_path}/whole"))
    part = open_run(tiny(*changes, "checkpoint.every=3", "checkpoint.background=false"))
    save = part.save_checkpoint

    def save_and_stop() -> None:
        save()
        raise KeyboardInterrupt

    monkeypatch.setattr(part, "save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(part, lambda record: None)
    assert part.step == 3
    resumed, _, _ = trained(tiny(*changes, "checkpoint.every=3", "resume=true"))
    for name, value in whole.trainer.network.state_dict().items():
        assert torch.equal(value, resumed.trainer.network.state_dict()[name]), name


def test_triplet_training_lowers_the_loss(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    config = tiny(*TRIPLET, "steps=40", "log.every=10", "optimizer.lr=0.02", "augment.flip=0", "data.difficulty=0.1")
    run, _, records = trained(config)
    assert records[-1]["loss"] < 0.6 * records[0]["loss"]
    assert records[-1]["train_accuracy"] > records[0]["train_accuracy"]
    assert run.trainer.classifier is run.trainer.margin
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_a_triplet_training_starts_from_another_network(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    trained(tiny(f"out={tmp_path}/first"))
    trainer = build_trainer(tiny(*TRIPLET, f"init_from={tmp_path}/first"))
    assert trainer.origin == f"network from {tmp_path}/first"


def test_centres_are_taken_over_by_another_margin(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    run, _, _ = trained(tiny("margin={name: sphereface}", f"out={tmp_path}/first"))
    trainer = build_trainer(tiny("margin={name: adaface}", f"init_from={tmp_path}/first"))
    assert torch.equal(trainer.classifier.centres, run.trainer.classifier.centres)  # pyright: ignore
    again = build_trainer(tiny("margin={name: sphereface}", f"init_from={tmp_path}/first"))
    assert int(again.margin.iteration) == 0  # pyright: ignore


def test_pk_needs_a_batch_of_whole_identities(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="images_per_identity, got 8 and 3"):
        trained(tiny("sampler={name: pk, images_per_identity: 3}"))
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="batch of 8 identities needs at least as many"):
        trained(tiny("sampler={name: pk, images_per_identity: 1}"))


@pytest.mark.parametrize("name", MARGINS)
def test_every_margin_takes_a_training_step(tiny: Tiny, name: str) -> None:
    trainer = build_trainer(tiny(f"margin={{name: {name}}}"))
    torch.manual_seed(0)
    loss, _ = add_gradients(trainer, torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3]))
    assert torch.isfinite(loss)


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_what_a_margin_learns_counts_once_in_the_gradient_norm(
    tiny: Tiny, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Centres are divided among processes, and their squares summed over them: here three with the same ones."""
    trainer = build_trainer(tiny("margin={name: uniface}", f"classifier.sample_rate={rate}"))
    torch.manual_seed(0)
    add_gradients(trainer, torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3]))
    assert isinstance(trainer.classifier, PartialFC)
    assert isinstance(trainer.margin, UniFace)
    sampled = [grad for _, grad in trainer.classifier.gradients]
    centres = sampled[0] if rate < 1 else trainer.classifier.centres.grad
    bias = trainer.margin.bias.grad
    assert centres is not None
    assert bias is not None
    bias.fill_(1000.0)
    of_network = sum(float(grad.square().sum()) for grad in trainer.network_gradients())
    monkeypatch.setattr(guard, "world_size", lambda: 3)
    monkeypatch.setattr(guard.dist, "all_reduce", lambda squares: squares.mul_(3))
    expected = (of_network + 3 * float(centres.square().sum()) + 1000.0**2) ** 0.5
    assert float(guard.gradient_norm(trainer)) == pytest.approx(expected, rel=1e-5)
    assert len(trainer.gradients()) == len(trainer.network_gradients()) + 2
