"""From a configuration to everything the loop needs: built, checked and resumed before anything is written."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from faceprint.classifier import PartialFC
from faceprint.config import Config
from faceprint.data.augment import Augmentation
from faceprint.data.images import ImageError
from faceprint.data.loader import Loader, default_workers
from faceprint.data.pixels import InputSpec
from faceprint.data.sampler import BatchOrder
from faceprint.data.source import Source
from faceprint.device import resolve_device
from faceprint.errors import UserError
from faceprint.margins import MARGINS, Margin
from faceprint.memory import keep_freed_memory
from faceprint.models import FaceNetwork, create_model
from faceprint.models.norms import mixing_logits
from faceprint.registry import unknown
from faceprint.training.initial import start_from
from faceprint.training.optim import make_optimizer
from faceprint.training.schedule import make_schedule
from faceprint.training.sources import build_source, fingerprint


@dataclass(frozen=True)
class Plan:
    """Numbers derived from configuration and data."""

    num_images: int
    num_classes: int
    global_batch: int
    total_steps: int
    base_lr: float
    """The recipe's learning rate scaled from the reference batch to the global batch."""

    def epoch(self, step: int) -> float:
        """Epochs done after `step` steps."""
        return step * self.global_batch / self.num_images


@dataclass
class Trainer:
    """What the loop works with. `forward` is the network, compiled where the configuration says so."""

    plan: Plan
    device: torch.device
    source: Source
    spec: InputSpec
    network: FaceNetwork
    forward: Callable[[Tensor], Tensor]
    classifier: PartialFC
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    schedule: Callable[[int], float]
    augmentation: Augmentation
    autocast: Callable[[], AbstractContextManager[Any]]
    memory_format: torch.memory_format
    origin: str | None
    """Where the first weights came from, in words; None for random ones, and for a resumed run."""

    def parameters(self) -> list[nn.Parameter]:
        return [*self.network.parameters(), *self.classifier.parameters()]


def build_trainer(config: Config) -> Trainer:
    """Everything from `config`, on its device, with weights drawn from `config.seed`. Writes nothing.

    Raises `UserError` for what does not fit together.
    """
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    if device.type == "cpu":
        keep_freed_memory()
    source = build_source(config.data, config.network.image_size)
    spec = InputSpec(
        size=config.network.image_size, colour=config.input.colour, mean=config.input.mean, std=config.input.std
    )
    check_size(source, spec)
    plan = make_plan(config, source)
    torch.manual_seed(config.seed)
    network = create_model(
        config.network.name,
        embedding_dim=config.network.embedding_dim,
        image_size=config.network.image_size,
        **config.network.options,
    )
    classifier = PartialFC(
        network.embedding_dim, plan.num_classes, build_margin(config.margin.name, config.margin.options)
    )
    origin = None
    if config.init_from is not None and not config.resume:
        origin = start_from(config.init_from, network, classifier, fingerprint(source))
    memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
    network.to(device, memory_format=memory_format)  # pyright: ignore[reportCallIssue]
    classifier.to(device)
    optimizer = make_optimizer(
        config.optimizer.name,
        [*network.parameters(), *classifier.parameters()],
        lr=plan.base_lr,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
        undecayed=mixing_logits(network),
    )
    return Trainer(
        plan=plan,
        device=device,
        source=source,
        spec=spec,
        network=network,
        forward=torch.compile(network) if config.compile else network,
        classifier=classifier,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(device.type, enabled=precision == torch.float16),
        schedule=build_schedule(config, plan),
        augmentation=Augmentation(**config.augment.model_dump()),
        autocast=lambda: torch.autocast(device.type, precision, enabled=precision != torch.float32),
        memory_format=memory_format,
        origin=origin,
    )


def check_size(source: Source, spec: InputSpec) -> None:
    """Raise `UserError` where the first image that can be read has another size: better now than in the first step."""
    for index in range(min(len(source), 16)):
        with suppress(ImageError):
            spec.check(source[index][0], source.name(index))
            return


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The type that convolutions run in. "auto": bfloat16 on a GPU that has it, else float16; float32 elsewhere."""
    if name == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if name == "fp16" and device.type != "cuda":
        raise UserError(f"precision=fp16 needs a CUDA device, this is {device.type}; use bf16 or fp32")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def make_plan(config: Config, source: Source) -> Plan:
    global_batch = config.batch_size * config.accumulate
    steps = config.steps or math.ceil((config.epochs or 0) * len(source) / global_batch)
    return Plan(
        num_images=len(source),
        num_classes=len(source.class_names),
        global_batch=global_batch,
        total_steps=max(1, steps),
        base_lr=config.optimizer.lr * global_batch / (config.reference_batch or global_batch),
    )


def build_schedule(config: Config, plan: Plan) -> Callable[[int], float]:
    """The schedule in steps of the actual batch, whatever unit and reference batch it is stated in."""
    schedule = config.schedule
    reference_batch = config.reference_batch or plan.global_batch
    images = plan.num_images if schedule.unit == "epoch" else reference_batch
    steps_per_unit = images / plan.global_batch
    return make_schedule(
        schedule.name,
        total_steps=plan.total_steps,
        warmup_steps=schedule.warmup * steps_per_unit,
        milestones=[milestone * steps_per_unit for milestone in schedule.milestones],
        factor=schedule.factor,
        power=schedule.power,
        final=schedule.final,
    )


def build_margin(name: str, options: Mapping[str, Any]) -> Margin:
    """A margin of the table with its options; an unknown option lists those there are."""
    factory = MARGINS[name]
    # A class without a constructor of its own takes no options; nn.Module's signature would admit anything.
    allowed = list(inspect.signature(factory).parameters) if "__init__" in vars(factory) else []
    for option, value in options.items():
        if option not in allowed:
            raise unknown(f"option of margin {name!r}", option, allowed)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"margin.options.{option}: expected a number, got {value!r}")
    return factory(**options)


def build_loader(config: Config, trainer: Trainer, first_step: int) -> Loader:
    """Batches from `first_step` to the end; `accumulate` of them make one step."""
    order = BatchOrder(
        num_images=trainer.plan.num_images,
        batch_size=config.batch_size,
        seed=config.seed,
        first=first_step * config.accumulate,
        last=trainer.plan.total_steps * config.accumulate,
    )
    return Loader(
        trainer.source,
        order,
        trainer.spec,
        workers=default_workers() if config.loader.workers is None else config.loader.workers,
        max_unreadable=config.loader.max_unreadable,
        pin_memory=trainer.device.type == "cuda",
    )
