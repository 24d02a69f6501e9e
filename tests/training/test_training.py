from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import faceprint
from faceprint.config import Config
from faceprint.data.synthetic import SyntheticFaces
from faceprint.errors import UserError
from faceprint.recipe import load_config
from faceprint.training.checkpoint import SHARED, list_checkpoints, load_part
from faceprint.training.loop import TrainingFailedError
from faceprint.training.opening import open_run
from faceprint.training.setup import build_trainer

Tiny = Callable[..., Config]
Trained = Callable[[Config], Any]

TIMES = {
    "samples_per_second",
    "data_wait_fraction",
    "images_per_second",
    "seconds",
    "head_milliseconds",
    "head_fraction",
}


PAIRS = "{protocol: synthetic, num_identities: 8, images_per_identity: 3, num_pairs: 20, size: 32x32}"


def lines(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what the clock decides."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in TIMES} for record in records]


def test_a_run_folder_has_what_it_promises(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    config = tiny()
    run, outcome, records = trained(config)
    folder = tmp_path / "run"
    assert load_config(str(folder / "config.yaml")).model_dump(exclude={"recipe"}) == config.model_dump(
        exclude={"recipe"}
    )
    assert [record["step"] for record in lines(folder)] == [2, 4, 6]
    assert records[-1] == outcome.train_record
    expected = {
        "loss",
        "learning_rate",
        "gradient_norm",
        "samples_per_second",
        "data_wait_fraction",
        "target_cosine",
        "train_accuracy",
        "target_cosine_counts",
        "other_cosine_counts",
    }
    counts = {"active_classes", "positive_classes", "negative_classes", "head_milliseconds", "head_fraction"}
    expected |= counts | {"kind", "step", "epoch", "embedding_norm", "lowest_target_cosine", "unreadable_images"}
    assert set(records[0]) == expected
    assert records[0]["epoch"] == pytest.approx(2 * 8 / 30, abs=1e-4)
    assert [path.name for path in list_checkpoints(folder / "checkpoints")] == ["step_000000006"]
    card = json.loads((folder / "model" / "model.json").read_text())
    assert card["architecture"] == "mbf"
    assert card["embedding_dim"] == 16
    assert card["provenance"]["step"] == 6
    assert run.step == 6


def test_the_model_of_a_run_gives_the_embeddings_of_its_network(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    run, _, _ = trained(tiny())
    faces = SyntheticFaces(3, 1, size=(32, 32), seed=9)
    images = [faces[index][0] for index in range(3)]
    embedder = faceprint.load(tmp_path / "run")
    pixels = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() - 127.5) / 127.5
    with torch.no_grad():
        raw = run.trainer.network.eval()(pixels)
    expected = torch.nn.functional.normalize(raw).numpy()
    assert np.abs(embedder.embed(images) - expected).max() < 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        ["ema=0.9"],
        ["optimizer.name=adamw", "optimizer.lr=0.002"],
        ["accumulate=2", "batch_size=4"],
        # Rows that wait for their updates are not brought up to date by a checkpoint, nor are random numbers drawn.
        ["classifier={update: dense, sample_rate: 0.2, centres: bf16, state: bf16}", "data.identities=40"],
        ["margin={name: triplet}", "sampler={name: pk, images_per_identity: 2}"],
        [
            "margin={name: elasticface, options: {plus: true}, schedule: {margin: [[0, 0.0], [1, 0.5]]}}",
            "sampler.name=balanced",
            "classifier={class_weights: inverse, sub_centers: 2, label_smoothing: 0.1}",
        ],
        ["optimizer={unfreeze: 1, lr_factors: {'*': 0, 'output.*': 1}}", "schedule.warmup=1"],
    ],
    ids=["ema", "adamw", "accumulate", "dense", "triplet", "elastic", "freeze"],
)
def test_resuming_anywhere_gives_the_bit_identical_run(
    tiny: Tiny, trained: Trained, tmp_path: Path, changes: list[str]
) -> None:
    # Dropout, augmentation and data order all draw random numbers; log lines straddle the interruption at step 3.
    changes = [*changes, "augment.shift=0.1", "augment.erase=0.5", "network.options.output=E", "schedule.name=cosine"]
    whole, _, _ = trained(tiny(f"out={tmp_path}/whole", *changes))

    torch.manual_seed(12345)
    part = open_run(tiny("checkpoint.every=3", "checkpoint.background=false", *changes))
    stopped = _stop_after(part, step=5)
    assert stopped.step == 5
    torch.manual_seed(54321)
    resumed, _, _ = trained(tiny("resume=true", *changes))

    for name, weight in whole.trainer.network.state_dict().items():
        assert torch.equal(weight, resumed.trainer.network.state_dict()[name]), name
    if whole.trainer.average is not None:
        assert resumed.trainer.average is not None
        averages = whole.trainer.average.state_dict(), resumed.trainer.average.state_dict()
        assert all(torch.equal(averages[0][name], averages[1][name]) for name in averages[0])
        assert not torch.equal(next(whole.trainer.average.parameters()), next(whole.trainer.network.parameters()))
    classes = whole.trainer.classifier.state_dict(), resumed.trainer.classifier.state_dict()
    assert all(torch.equal(classes[0][name], classes[1][name]) for name in classes[0])
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")


@pytest.mark.parametrize(
    ("first", "then", "refusal"),
    [
        ("optimizer.momentum=0.9", "optimizer={momentum: 0.5, weight_decay: 0.25, clip_norm: 1}", ""),
        ("ema=0", "ema=0.9", ""),
        ("ema=0.9", "ema=0", ""),
        ("margin={name: adaface}", "margin={name: cosface}", ""),
        ("margin={name: cosface}", "margin={name: uniface}", ""),
        ("optimizer.name=sgd", "optimizer.name=adamw", "optimizer.name: the checkpoint has the state of the other"),
        ("optimizer.name=adamw", "optimizer.name=sgd", "optimizer.name: the checkpoint has the state of the other"),
        ("optimizer.lr_factors={}", "optimizer.lr_factors={'output.*': 0.1}", "of another configuration .*group"),
        ("network.options.scale=1", "network.options.scale=2", "of another configuration .*size mismatch"),
    ],
)
def test_what_may_change_does_and_the_rest_is_refused(
    tiny: Tiny, trained: Trained, first: str, then: str, refusal: str
) -> None:
    trained(tiny("steps=2", first))
    config = tiny("steps=3", "resume=true", then, f"resume_changes=[steps, {then.split('=')[0].split('.')[0]}]")
    if refusal:
        with pytest.raises(UserError, match=refusal):
            open_run(config)
        return
    run, _, _ = trained(config)
    assert run.step == 3
    (group,) = run.trainer.optimizer.param_groups
    assert (group["momentum"], group["weight_decay"]) == (config.optimizer.momentum, config.optimizer.weight_decay)


def test_an_average_that_begins_later_begins_at_the_weights(tiny: Tiny, trained: Trained) -> None:
    before, _, _ = trained(tiny("steps=2"))
    run = open_run(tiny("steps=3", "resume=true", "ema=0.9", "resume_changes=[steps, ema]"))
    average = run.trainer.best_weights().state_dict()
    assert all(torch.equal(value, average[name]) for name, value in before.trainer.network.state_dict().items())


def test_a_run_that_died_before_its_first_checkpoint_starts_again(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    """Also where an evaluation has left a model; one whose training came to its end is not touched."""
    protocol = "{protocol: synthetic, num_identities: 8, images_per_identity: 3, num_pairs: 20, size: 32x32}"
    keys = ("resume=auto", "log.every=1", "evaluation.every=2", f"evaluation.protocols=[{protocol}]")
    for length in (("steps=6",), ("steps=null", "epochs=1.6")):
        changes = (*keys, *length)
        _stop_after(open_run(tiny(*changes)), step=3)
        assert (tmp_path / "run" / "model").is_dir()
        assert list_checkpoints(tmp_path / "run" / "checkpoints") == []
        run, _, _ = trained(tiny(*changes))
        trained_steps = [line["step"] for line in lines(tmp_path / "run") if line["kind"] == "train"]
        assert trained_steps == list(range(1, run.step + 1))
        shutil.rmtree(tmp_path / "run" / "checkpoints")
        with pytest.raises(UserError, match="exists; continue it"):
            open_run(tiny(*changes))
        shutil.rmtree(tmp_path / "run")


def _stop_after(run: Any, step: int) -> Any:
    """Train, and die as by a kill when `step` is done: no checkpoint of it, no closing."""
    from faceprint.training import loop

    class Killed(Exception):
        pass

    def update(trainer: Any, norm: Any, clip_norm: float | None = None) -> None:
        original(trainer, norm, clip_norm)
        if run.step + 1 == step:
            run.step += 1
            raise Killed

    original = loop.update_weights
    loop.update_weights = update
    try:
        with pytest.raises(Killed):
            loop.train(run, lambda record: None)
    finally:
        loop.update_weights = original
    return run


def test_accumulation_is_the_mean_over_the_global_batch(tiny: Tiny) -> None:
    """Two passes of 4 images give the gradient of one pass of 8, up to the batch norms' statistics."""
    from faceprint.training.loop import add_gradients

    trainer = build_trainer(tiny())
    trainer.network.eval()  # running statistics: the gradient is then a mean over images
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8) % 6
    add_gradients(trainer, images, labels)
    whole = [gradient.clone() for gradient in trainer.gradients()]
    for optimizer in trainer.optimizers():
        optimizer.zero_grad()
    add_gradients(trainer, images[:4], labels[:4], 2)
    add_gradients(trainer, images[4:], labels[4:], 2)
    parts = trainer.gradients()
    for a, b in zip(whole, parts, strict=True):
        assert (a - b).norm() <= 1e-3 * a.norm()


def test_training_lowers_the_loss(tiny: Tiny, trained: Trained) -> None:
    _, _, records = trained(tiny("steps=40", "log.every=5", "dry_run=true"))
    assert records[-1]["loss"] < 0.8 * records[0]["loss"]
    assert records[-1]["target_cosine"] > records[0]["target_cosine"] + 0.1


def test_a_dry_run_writes_nothing(tiny: Tiny, trained: Trained, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    _, outcome, _ = trained(tiny("dry_run=true", "steps=2", "log.loggers=[tensorboard]"))
    assert outcome.train_record["step"] == 2
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_leaves_the_training_as_it_was(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    """Dropout and batch statistics of every layer go on: the losses are those of a training without evaluations."""
    changes = ("network.options.output=E", "log.every=1")
    pairs = "{protocol: synthetic, num_identities: 6, images_per_identity: 3, num_pairs: 12, first_identity: 50}"
    often = (f"evaluation={{every: 2, protocols: [{pairs}]}}", f"out={tmp_path}/often")
    trained(tiny(*changes))
    run, _, _ = trained(tiny(*changes, *often))
    losses = [
        [line["loss"] for line in lines(folder) if line["kind"] == "train"]
        for folder in (tmp_path / "run", tmp_path / "often")
    ]
    assert losses[0] == losses[1]
    assert all(module.training for module in run.trainer.network.modules())


def test_evaluations_keep_the_best_model(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    protocol = "{protocol: synthetic, num_identities: 8, images_per_identity: 3, num_pairs: 20, size: 32x32}"
    run, _, records = trained(tiny("steps=8", "evaluation.every=2", f"evaluation.protocols=[{protocol}]"))
    accuracies = {record["step"]: record["accuracy"] for record in records if record["kind"] == "evaluation"}
    assert list(accuracies) == [2, 4, 6, 8]
    best = max(accuracies.values())
    card = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert run.best == best
    assert accuracies[card["provenance"]["step"]] == best
    assert card["provenance"]["evaluation"]["accuracy"] == best


def test_a_loss_that_stays_non_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    tiny: Tiny, trained: Trained, tmp_path: Path
) -> None:
    config = tiny("steps=12", "checkpoint.every=2", "checkpoint.background=false", "log.every=1", "skip_nonfinite=2")
    run = open_run(config)
    from faceprint.training import loop

    def poison(record: dict[str, Any]) -> None:
        if record["step"] == 5:
            with torch.no_grad():
                run.trainer.classifier.centres.fill_(float("nan"))

    with pytest.raises(TrainingFailedError, match=r"step 8 and 2 steps before it .*step_000000006.*optimizer\.lr"):
        loop.train(run, poison)
    saved = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert [path.name for path in saved] == ["step_000000004", "step_000000006"]
    weights = load_part(saved[0] / SHARED)["network"]
    assert all(torch.isfinite(value).all() for value in weights.values() if value.is_floating_point())
    figures = json.loads((tmp_path / "run" / "failed_step_000000008.json").read_text())
    assert figures["labels"][0] >= 0
    assert figures["labels"][1] < 6
    assert len(figures["images"]) == 8
    assert all("synthetic" in name for name in figures["images"])
    assert set(figures) >= {"loss", "gradient_norm", "learning_rate", "loss_scale", "largest_logit"}


@pytest.mark.parametrize("margin", ["cosface", "adaface"])
def test_a_single_step_that_is_not_finite_is_left_out_and_leaves_no_trace(
    tiny: Tiny, tmp_path: Path, margin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch of infinite pixels: weights and running moments are afterwards as before it."""
    from faceprint.training import loop

    run = open_run(tiny(f"margin={{name: {margin}}}", "log.every=1", "steps=4"))
    state: list[dict[str, torch.Tensor]] = []
    original = loop.prepare

    def prepare(batch: Any, trainer: Any, generator: Any) -> torch.Tensor:
        images = original(batch, trainer, generator)
        state.append({name: value.clone() for name, value in trainer.network.state_dict().items()})
        return images * float("inf") if run.step == 1 else images

    monkeypatch.setattr(loop, "prepare", prepare)
    loop.train(run, lambda record: None)
    before, after = state[1], state[2]
    assert all(torch.equal(before[name], after[name]) for name in before if before[name].is_floating_point())
    warnings = [record for record in lines(tmp_path / "run") if record["kind"] == "warning"]
    assert len(warnings) == 1
    assert "step 2 was left out" in warnings[0]["message"]
    assert all(torch.isfinite(value).all() for value in run.trainer.classifier.state_dict().values())
    assert run.step == 4


def test_training_in_fp16_goes_on_after_steps_that_are_not_finite(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss scale on the CPU, which it works on as on a GPU: a lost step leaves the scale as it was."""
    from faceprint.training import loop

    run = open_run(tiny("log.every=1", "steps=5", "dry_run=true"))
    run.trainer.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)  # type: ignore[misc]
    original = loop.prepare

    def prepare(batch: Any, trainer: Any, generator: Any) -> torch.Tensor:
        images = original(batch, trainer, generator)
        return images * float("nan") if run.step in (1, 2) else images

    monkeypatch.setattr(loop, "prepare", prepare)
    records: list[dict[str, Any]] = []
    loop.train(run, records.append)
    assert run.step == 5
    assert [record["loss_scale"] for record in records] == [64.0] * 5
    assert all(torch.isfinite(value).all() for value in run.trainer.network.state_dict().values())


def test_a_failure_publishes_the_checkpoint_that_was_being_written(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faceprint.training import loop
    from faceprint.training.run import Run

    run = open_run(tiny("steps=9", "checkpoint.every=3", "skip_nonfinite=1"))
    monkeypatch.setattr(Run, "agreed_to_stop", lambda run: False)  # as if the disk were slow
    original = loop.prepare

    def prepare(batch: Any, trainer: Any, generator: Any) -> torch.Tensor:
        images = original(batch, trainer, generator)
        return images * float("nan") if run.step >= 3 else images

    monkeypatch.setattr(loop, "prepare", prepare)
    with pytest.raises(TrainingFailedError, match="step_000000003"):
        loop.train(run, lambda record: None)


@pytest.mark.parametrize(("loss", "accuracy", "said"), [(7.9, 0.2, 1), (6.0, 0.2, 0), (7.9, 0.5, 0)])
def test_a_loss_that_stays_at_chance_is_said_once(
    tiny: Tiny, tmp_path: Path, loss: float, accuracy: float, said: int
) -> None:
    run = open_run(tiny("steps=200"))
    for run.step in range(10, 200, 10):
        run.watch_progress({"step": run.step, "loss": 8.0 if run.step == 10 else loss, "train_accuracy": accuracy})
    warnings = [line for line in lines(tmp_path / "run") if line["kind"] == "warning"]
    assert [line["step"] for line in warnings] == [100] * said
    assert all("no better than by chance: check the labels" in line["message"] for line in warnings)


@pytest.mark.parametrize(("loss", "said"), [(7.9, 1), (6.0, 0)])
def test_a_resumed_run_knows_its_first_loss(
    tiny: Tiny, trained: Trained, tmp_path: Path, loss: float, said: int
) -> None:
    """It does not take the first one since for it, and says nothing twice."""
    _, _, (record,) = trained(tiny("steps=2"))
    (tmp_path / "run" / "metrics.jsonl").write_text(json.dumps({**record, "loss": 8.0}) + "\n")
    config = tiny("steps=200", "resume=true", "resume_changes=[steps]")
    for step in (100, 110):
        run = open_run(config)
        for run.step in (step, step + 1):
            run.watch_progress(run.log({**record, "step": run.step, "loss": loss, "train_accuracy": 0.1}))
        run.step = step + 2
        run.save_checkpoint()
        run.close()
    warnings = [line for line in lines(tmp_path / "run") if line["kind"] == "warning"]
    assert [line["step"] for line in warnings] == [100] * said


def test_tensorboard_gets_the_figures(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _, _, records = trained(tiny("log.loggers=[tensorboard]"))
    events = event_accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    written = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert written == [(record["step"], pytest.approx(record["loss"])) for record in records]


def test_existing_folders_and_resume_are_guarded(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to resume there"):
        open_run(tiny("resume=true"))
    trained(tiny())
    with pytest.raises(UserError, match="exists; continue it with resume=true"):
        open_run(tiny())
    with pytest.raises(UserError, match="continues the same curve, but optimizer was"):
        open_run(tiny("resume=true", "optimizer.lr=1"))
    before = sorted(tmp_path.rglob("*"))
    file = tmp_path / "run" / "checkpoints" / "step_000000006" / SHARED
    whole = file.read_bytes()
    for damaged, words in ((whole[:-100], "torn"), (whole[:500] + b"?" + whole[501:], "altered")):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=words):
            open_run(tiny("resume=true"))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_checkpoint_is_data_not_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "ran").touch, ())

    path = tmp_path / "shared.pt"
    torch.save({"step": 1, "x": Evil()}, path)
    with pytest.raises(UserError, match="cannot be read"):
        load_part(path)
    assert not (tmp_path / "ran").exists()


def test_nothing_is_written_before_everything_is_checked(tiny: Tiny, tmp_path: Path) -> None:
    for change, words in (
        ("network.name=r19", "unknown network"),
        ("network.options.wide=3", "unknown option of network"),
        ("margin.name=arcfce", r"unknown margin 'arcfce' \(nearest: 'arcface'\)"),
        ("margin.options.scal=3", r"unknown option of margin 'cosface' 'scal' \(nearest: 'scale'\)"),
        ("margin.options.scale=big", "expected a number"),
        ("evaluation.protocols=[{protocol: pars}]", "unknown protocol 'pars'"),
        ("evaluation.protocols=[{images: x}]", "needs the key protocol"),
        ("data.identities=1", "at least 2 identities"),
        ("precision=fp16", "fp16 needs a CUDA device"),
        ("batch_size=1", "batch_size=1: batch norm needs at least 2 images"),
        (f"evaluation={{metric: acuracy, protocols: [{PAIRS}]}}", "evaluation.metric=acuracy: not a figure"),
        (f"evaluation={{metric: tar_at_far.1e-4, protocols: [{PAIRS}]}}", "evaluation.metric=tar_at_far.1e-4: not a"),
        ("device=cuda", "'cuda' is not available" if not torch.cuda.is_available() else ""),
    ):
        if words:
            with pytest.raises(UserError, match=words):
                open_run(tiny(change))
    assert list(tmp_path.iterdir()) == []


def test_the_learning_rate_is_scaled_from_the_reference_batch(tiny: Tiny) -> None:
    plan = build_trainer(tiny("reference_batch=32", "accumulate=2")).plan
    assert plan.global_batch == 16
    assert plan.base_lr == pytest.approx(0.05 * 16 / 32)


def test_accumulation_reaches_the_reference_batch(tiny: Tiny) -> None:
    plan = build_trainer(tiny("reference_batch=30")).plan
    assert (plan.accumulate, plan.global_batch) == (4, 32)  # nearer to 30 than 24 is
    assert plan.base_lr == pytest.approx(0.05 * 32 / 30)


def test_epochs_become_steps(tiny: Tiny) -> None:
    plan = build_trainer(tiny("steps=null", "epochs=3")).plan
    assert plan.total_steps == 12  # 90 images in batches of 8
