"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from faceprint.classifier import BatchStatistics
from faceprint.data.loader import Batch
from faceprint.distributed import rank, world_size
from faceprint.errors import UserError
from faceprint.models.switch_norm import sharpen
from faceprint.training.measure import Stopwatch
from faceprint.training.optim import clip_gradients, scale_gradient, set_learning_rate, set_options
from faceprint.training.run import Run
from faceprint.training.setup import Trainer, build_loader

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


def train(run: Run, report: Report) -> Outcome:
    """Train from `run.step` to the plan's last step. `report` gets every record as it is logged.

    Raises `TrainingFailedError` when the loss stops being finite; checkpoints written before that stay. Raises
    `UserError` for images that cannot be used, and leaves no run folder where there is no checkpoint yet; and
    `WorkerDied` where a process that reads them ends.
    """
    try:
        return _train(run, report)
    except UserError:
        run.abandon()
        raise


def _train(run: Run, report: Report) -> Outcome:
    config, trainer = run.config, run.trainer
    began, watch = time.perf_counter(), Stopwatch()
    train_record: dict[str, Any] = {}
    evaluation_records: list[dict[str, Any]] = []
    loader = build_loader(config, trainer, run.step)
    batches = iter(loader)
    total = trainer.plan.total_steps
    trainer.network.train()
    while run.step < total:
        lr = trainer.plan.base_lr * trainer.schedule(run.step)
        for optimizer in trainer.optimizers():
            set_learning_rate(optimizer, lr)
        for margin in trainer.margins():
            set_options(margin, trainer.margin_schedule(run.step))
        sharpen(trainer.sparsest, run.step / max(1, total - 1))
        for part in range(config.accumulate):
            batch = _next(batches, watch)
            block = (run.step * config.accumulate + part) * world_size() + rank()
            images = prepare(batch, trainer, _generator(config.seed, block))
            loss, statistics = add_gradients(trainer, images, batch.labels.to(trainer.device), config.accumulate)
            run.means.add(run.step + 1, loss, statistics)
            watch.images += len(images)
        update_weights(trainer, config.optimizer.clip_norm)
        run.step += 1
        watch.steps += 1

        last = run.step == total
        log, evaluate, save = (
            last or (every > 0 and run.step % every == 0)
            for every in (config.log.every, config.evaluation.every, config.checkpoint.every)
        )
        if log or evaluate or save:
            _check_finite(run, lr)
        if log:
            figures = {"learning_rate": lr, **run.means.take(), **watch.take(trainer.head_timer.take())}
            figures["unreadable_images"] = len(loader.unreadable)
            train_record = run.log({"kind": "train", **run.position, **figures})
            report(train_record)
        paused = time.perf_counter()
        if evaluate:
            evaluation_records = [run.log(record) for record in run.evaluate()]
            for record in evaluation_records:
                report(record)
        if save:
            run.save_checkpoint()
        watch.add_pause(paused)
    run.finish()
    return Outcome(time.perf_counter() - began, train_record, evaluation_records, loader.unreadable)


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
    with trainer.autocast():
        embeddings = trainer.forward(images)
    with trainer.head_timer.running():
        given = embeddings.detach().requires_grad_()
        scaled = scale_gradient(given, trainer.scaler) if trainer.scaler.is_enabled() else given
        loss, statistics = trainer.classifier.measure(scaled, labels)
        (loss / accumulate).backward()
    embeddings.backward(given.grad)
    return loss.detach(), statistics


def update_weights(trainer: Trainer, clip_norm: float | None = None) -> None:
    """One optimiser step over the gradients there are, which are dropped afterwards."""
    if clip_norm is not None:
        trainer.scaler.unscale_(trainer.optimizer)
        clip_gradients(trainer.gradients(), clip_norm)
    trainer.scaler.step(trainer.optimizer)
    trainer.scaler.update()
    trainer.optimizer.zero_grad()
    if trainer.head_optimizer is not None:
        with trainer.head_timer.running():
            trainer.head_optimizer.step()
            trainer.head_optimizer.zero_grad()


def _check_finite(run: Run, lr: float) -> None:
    trainer = run.trainer
    bad = int(run.means.first_bad)
    if not bad:
        return
    means = run.means.take()
    raise TrainingFailedError(
        f"the loss was not finite at step {bad} (mean loss {means['loss']}, embedding norm {means['embedding_norm']},"
        f" learning rate {lr:g}, margin {run.config.margin.name}, loss scale"
        f" {trainer.scaler.get_scale():g}); {run.last_good()}. Try a lower optimizer.lr, a longer schedule.warmup,"
        " optimizer.clip_norm=5 or precision=fp32"
    )
