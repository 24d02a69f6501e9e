"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from faceprint.classifier import BatchStatistics
from faceprint.config import Config
from faceprint.data.loader import Batch, Loader
from faceprint.distributed import rank, world_size
from faceprint.errors import UserError
from faceprint.models.switch_norm import sharpen
from faceprint.training.batches import build_loader
from faceprint.training.guard import Guard, floor_scale, forget_step, gradient_norm, largest_logit, loss_scale
from faceprint.training.measure import Stopwatch
from faceprint.training.optim import clip_gradients, drop_frozen, scale_gradient, set_learning_rate, set_options
from faceprint.training.profile import Profile, Row, part
from faceprint.training.run import Run
from faceprint.training.stopping import StopRequest
from faceprint.training.trainer import Trainer

Report = Callable[[dict[str, Any]], None]


class TrainingFailedError(RuntimeError):
    """The training cannot go on; the message says at which step, and what to try."""


@dataclass(frozen=True)
class Outcome:
    """How a training ended: the last record of each kind, and the images that could not be read, with reasons."""

    seconds: float
    train_record: dict[str, Any]
    evaluation_records: list[dict[str, Any]]
    unreadable: dict[str, str]
    profile: list[Row]
    """Where the time of some steps went; empty without `profile=true`."""
    stopped: bool
    """Whether it was asked to stop before its last step; a checkpoint of the step it came to is there."""


def train(run: Run, report: Report) -> Outcome:
    """Train from `run.step` to the plan's last step. `report` gets every record as it is logged.

    Raises `TrainingFailedError` when loss or gradients stay non-finite; checkpoints written before that stay. Raises
    `UserError` for images that cannot be used, and leaves no run folder where there is no checkpoint yet; and
    `WorkerDied` where a process that reads them ends.
    """
    try:
        loader = build_loader(run.config, run.trainer, run.step)
        with StopRequest() as stop, closing(iter(loader)) as batches:
            return _train(run, report, stop, loader, batches)
    except UserError:
        run.abandon()
        raise
    finally:
        run.close_loggers()


def _train(run: Run, report: Report, stop: StopRequest, loader: Loader, batches: Iterator[Batch]) -> Outcome:
    config, trainer = run.config, run.trainer
    began, watch = time.perf_counter(), Stopwatch()
    train_record: dict[str, Any] = {}
    evaluation_records: list[dict[str, Any]] = []
    total = trainer.plan.total_steps
    guard, stopped = Guard(trainer, config.skip_nonfinite), False
    profile = Profile(run.folder, trainer.device, steps_left=total - run.step, enabled=config.profile)
    trainer.network.train()
    if run.owes_evaluation or (config.evaluation.before and run.step == 0):
        evaluation_records = run.log_evaluation(report)
    while run.step < total and not (stopped or run.stalled):
        run.ask(stop)
        lr = follow_schedules(run)
        step = compute_gradients(run, batches, watch)
        norm, loss = gradient_norm(trainer), float(torch.stack(step.losses).mean())
        if guard.admits(loss, float(norm)):
            run.means.add_all(step.losses, step.statistics)
            update_weights(trainer, norm, config.optimizer.clip_norm)
        else:
            drop_gradients(trainer)
            forget_step(trainer.scaler)
            run.warn(f"step {run.step + 1} was left out: loss {loss}, gradient norm {float(norm)}")
            if guard.exhausted:
                raise _failure(run, lr, loss, float(norm), step)
        run.step += 1
        watch.steps += 1

        stopped = run.agreed_to_stop()
        last = run.step == total
        log, save = (last or is_due(run.step, every) for every in (config.log.every, config.checkpoint.every))
        if log:
            timed = watch.take(trainer.head_timer.take())
            figures = {"learning_rate": lr, "gradient_norm": float(norm), **run.means.take(), **timed}
            figures["unreadable_images"] = len(loader.unreadable)
            figures.update(loss_scale(trainer.scaler))
            train_record = run.log({"kind": "train", **run.position, **figures})
            report(train_record)
            run.watch_progress(train_record)
        paused = time.perf_counter()
        run.owes_evaluation = last or run.evaluation_is_due()
        if run.owes_evaluation and not stopped:  # who is asked to stop has half a minute
            evaluation_records = run.log_evaluation(report)
        if save or stopped or run.stalled:
            run.save_checkpoint()
        watch.add_pause(paused)
        profile.step()
    if not stopped:
        run.finish()
    profile.close()
    run.close()
    seconds = time.perf_counter() - began
    return Outcome(seconds, train_record, evaluation_records, loader.unreadable, profile.rows, stopped)


def is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def follow_schedules(run: Run) -> float:
    """Set what changes from step to step, as it is in the next: learning rate, margins' options, SN's mixtures.

    Returns the learning rate.
    """
    config, trainer, step = run.config, run.trainer, run.step
    lr = trainer.plan.base_lr * trainer.schedule(step)
    for optimizer in trainer.optimizers():
        set_learning_rate(optimizer, lr, thawed=is_thawed(config, trainer.plan.epoch(step)))
    for margin in trainer.margins():
        set_options(margin, trainer.margin_schedule(step))
    sharpen(trainer.sparsest, step / max(1, trainer.plan.total_steps - 1))
    return lr


def is_thawed(config: Config, epoch: float) -> bool:
    """Whether parts of the network that were frozen train by now."""
    return config.optimizer.unfreeze is not None and epoch >= config.optimizer.unfreeze


@dataclass(frozen=True)
class Computed:
    """Of one step: the last batch and what the network saw of it, and loss and statistics of every pass."""

    batch: Batch
    images: Tensor
    losses: list[Tensor]
    statistics: list[BatchStatistics]


def compute_gradients(run: Run, batches: Iterator[Batch], watch: Stopwatch) -> Computed:
    """The passes of one step; the gradients of all are averaged, over processes too."""
    trainer, passes = run.trainer, run.trainer.plan.accumulate
    losses: list[Tensor] = []
    seen: list[BatchStatistics] = []
    for number in range(passes - 1):
        with trainer.replicas.keeping_gradients():
            *_, loss, statistics = _pass(run, number, batches, watch)
        losses.append(loss)
        seen.append(statistics)
    batch, images, loss, statistics = _pass(run, passes - 1, batches, watch)
    return Computed(batch, images, [*losses, loss], [*seen, statistics])


def _pass(
    run: Run, number: int, batches: Iterator[Batch], watch: Stopwatch
) -> tuple[Batch, Tensor, Tensor, BatchStatistics]:
    trainer, passes = run.trainer, run.trainer.plan.accumulate
    batch = _next(batches, watch)
    block = (run.step * passes + number) * world_size() + rank()
    images = prepare(batch, trainer, _generator(run.config.seed, block))
    watch.images += len(images) * world_size()
    return batch, images, *add_gradients(trainer, images, batch.labels.to(trainer.device), passes)


@part("data")
def prepare(batch: Batch, trainer: Trainer, generator: Generator) -> Tensor:
    """uint8 (B, H, W, 3) RGB -> network input (B, 3, H, W) on the device, augmented and normalised."""
    pixels = batch.images.to(trainer.device, non_blocking=True).permute(0, 3, 1, 2).float()
    images = trainer.augmentation(pixels, generator)
    if trainer.spec.colour == "bgr":
        images = images.flip(1)
    return trainer.spec.normalize(images).contiguous(memory_format=trainer.memory_format)


def _generator(seed: int, block: int) -> Generator:
    """Random numbers of one block of the sampler: the same after a resume, and for any number of processes."""
    return torch.Generator().manual_seed((seed * 1_000_003 + block) % 2**63)


@part("data")
def _next(batches: Iterator[Batch], watch: Stopwatch) -> Batch:
    since = time.perf_counter()
    batch = next(batches)
    watch.waited += time.perf_counter() - since
    return batch


def add_gradients(
    trainer: Trainer, images: Tensor, labels: Tensor, accumulate: int = 1
) -> tuple[Tensor, BatchStatistics]:
    """One forward and backward pass; its gradients are divided by `accumulate` and added to those there are.

    The backward pass stops at the embeddings, so that the classifier's time can be told from the network's. The loss
    scale of fp16 is put on there: the classifier is float32 and needs none.
    """
    with part("forward"), trainer.autocast():
        embeddings = trainer.replicas.forward(images)
    with part("head"), trainer.head_timer.running():
        given = embeddings.detach().requires_grad_()
        scaled = scale_gradient(given, trainer.scaler) if trainer.scaler.is_enabled() else given
        loss, statistics = trainer.classifier.measure(scaled, labels)
        if trainer.distiller is not None:
            loss = loss + trainer.distiller(images, scaled)
        (loss / accumulate).backward()
    with part("backward"):
        embeddings.backward(given.grad)
    return loss.detach(), statistics


@part("optimizer")
def update_weights(trainer: Trainer, norm: Tensor, clip_norm: float | None = None) -> None:
    """One optimiser step over the gradients there are, of length `norm`, which are dropped afterwards."""
    if clip_norm is not None:
        clip_gradients(trainer.gradients(), norm, clip_norm)
    drop_frozen(trainer.optimizer)
    trainer.scaler.step(trainer.optimizer)
    trainer.scaler.update()
    floor_scale(trainer.scaler)
    if trainer.head_optimizer is not None:
        with trainer.head_timer.running():
            trainer.head_optimizer.step()
    if trainer.average is not None:
        trainer.average.update_parameters(trainer.network)
    drop_gradients(trainer)


def drop_gradients(trainer: Trainer) -> None:
    """Start the next step without gradients."""
    for optimizer in trainer.optimizers():
        optimizer.zero_grad()


def _failure(run: Run, lr: float, loss: float, norm: float, step: Computed) -> TrainingFailedError:
    """The end of a training that is not finite any more, after what may explain it was written down."""
    scale, labels = run.trainer.scaler.get_scale(), step.batch.labels
    figures = {
        "step": run.step + 1,
        "loss": loss,
        "gradient_norm": norm,
        "learning_rate": lr,
        "loss_scale": scale,
        "largest_logit": largest_logit(run.trainer, step.images),
        "labels": [int(labels.min()), int(labels.max())],
        "images": [run.trainer.source.name(index) for index in step.batch.indices.tolist()],
    }
    run.publish_checkpoint()  # one that was still being written has weights from before the failure
    written = run.dump(figures)
    return TrainingFailedError(
        f"loss or gradient was not finite in step {run.step + 1} and {run.config.skip_nonfinite} steps before it (loss"
        f" {loss}, gradient norm {norm}, learning rate {lr:g}, margin {run.config.margin.name}, loss scale {scale:g})"
        f"{written}; {run.last_good()}. Try a lower optimizer.lr, a longer schedule.warmup, optimizer.clip_norm=5 or"
        " precision=fp32"
    )
