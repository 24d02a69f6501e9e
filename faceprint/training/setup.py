"""From a configuration to everything the loop needs: built, checked and resumed before anything is written."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from faceprint.classifier import CentreOptimizer, HeadOptimizers, Heads, PartialFC, TripletLoss
from faceprint.classifier.estimate import HeadEstimate, HeadPlan
from faceprint.classifier.weighting import effective_number, inverse_frequency
from faceprint.config import Augment, Config, MarginConfig, MixedData
from faceprint.config import Classifier as ClassifierConfig
from faceprint.config import Network as NetworkConfig
from faceprint.config import Optimizer as OptimizerConfig
from faceprint.data.augment import Augmentation
from faceprint.data.cache import cached
from faceprint.data.gpu_decoder import nvimagecodec
from faceprint.data.images import ImageError
from faceprint.data.loader import Loader, default_workers
from faceprint.data.local_order import LocalDraw, storage_of
from faceprint.data.mixed import MixedSource
from faceprint.data.pixels import InputSpec
from faceprint.data.sampler import BalancedOrder, BatchOrder, Draw, IdentityOrder, Order
from faceprint.data.source import Source
from faceprint.device import resolve_device
from faceprint.distributed import rank, world_size
from faceprint.errors import UserError
from faceprint.margins import MARGINS
from faceprint.margins.plain import Plain
from faceprint.memory import keep_freed_memory
from faceprint.models import FaceNetwork, create_model
from faceprint.models.norms import SwitchNorm2d, mixing_logits, sparsest_layers
from faceprint.registry import Table, unknown
from faceprint.training.distillation import Distiller, build_distiller
from faceprint.training.initial import Start, start_from
from faceprint.training.measure import HeadTimer
from faceprint.training.optim import make_optimizer
from faceprint.training.randomness import seed_process
from faceprint.training.replicas import Replicas
from faceprint.training.schedule import make_schedule, piecewise_linear
from faceprint.training.sources import build_source, epoch_images, fingerprint

LOSSES: Table[type[Plain] | type[TripletLoss]] = Table("margin", [*MARGINS.items(), ("triplet", TripletLoss)])
"""What `margin.name` takes: the margins of a classifier, and the loss that needs none."""
SPARSEST_LR_FACTOR = 0.1
"""Learning rate of the logits under SparsestMax beside the network's, as published."""


@dataclass(frozen=True)
class Plan:
    """Numbers derived from configuration and data."""

    num_images: int
    """Of one epoch."""
    num_classes: int
    global_batch: int
    total_steps: int
    base_lr: float
    """The recipe's learning rate scaled from the reference batch to the global batch."""
    accumulate: int = 1
    """Passes of the network in each process that make one step."""

    def epoch(self, step: int) -> float:
        """Epochs done after `step` steps."""
        return step * self.global_batch / self.num_images


@dataclass
class Trainer:
    """What the loop works with. `replicas` is the network as a step calls it: compiled, in several processes."""

    plan: Plan
    device: torch.device
    source: Source
    spec: InputSpec
    network: FaceNetwork
    replicas: Replicas
    average: AveragedModel | None
    """The moving average of the network's weights and buffers, where one is kept."""
    classifier: PartialFC | Heads | TripletLoss
    margin: Plain | TripletLoss
    """The margin of the (first) head, or the triplet loss itself; `margin_schedule` gives the options of all `margins`
    before each step."""
    margin_schedule: Callable[[int], dict[str, float]]
    optimizer: torch.optim.Optimizer
    """The network's."""
    head_optimizer: CentreOptimizer | HeadOptimizers | None
    """The classifier's; None for a loss without class centres."""
    scaler: torch.amp.GradScaler
    schedule: Callable[[int], float]
    augmentation: Augmentation
    autocast: Callable[[], AbstractContextManager[Any]]
    memory_format: torch.memory_format
    head: HeadEstimate | None
    """What the classifier takes, as estimated before it was made; None for a loss without class centres."""
    head_timer: HeadTimer
    """Counts the time in classifier and its optimiser."""
    sparsest: list[SwitchNorm2d]
    """SN layers whose mixture becomes a choice as training goes on."""
    origin: str | None
    """Where the first weights came from, in words; None for random ones, and for a resumed run."""
    distiller: Distiller | None
    """The loss by which the network follows a teacher, where there is one."""

    @cached_property
    def data_fingerprint(self) -> str:
        """`fingerprint` of the source, computed once: the labels of many millions of images take a moment."""
        return fingerprint(self.source)

    def best_weights(self) -> FaceNetwork:
        """The network that is evaluated and kept: the moving average where there is one. All processes must call it."""
        return self.replicas.whole() if self.average is None else cast(FaceNetwork, self.average.module)

    def networks(self) -> list[nn.Module]:
        """The network in training, and the moving average where there is one."""
        return [self.network, *([] if self.average is None else [self.average.module])]

    def heads(self) -> list[tuple[PartialFC, CentreOptimizer]]:
        """Every classifier with class centres, with its optimiser; several where sets have heads of their own."""
        if isinstance(self.classifier, TripletLoss) or self.head_optimizer is None:
            return []
        optimizer = self.head_optimizer
        optimizers = optimizer.optimizers if isinstance(optimizer, HeadOptimizers) else [optimizer]
        heads = self.classifier if isinstance(self.classifier, Heads) else [self.classifier]
        return list(zip(heads, optimizers, strict=True))

    def margins(self) -> list[nn.Module]:
        return [head.margin for head in self.classifier] if isinstance(self.classifier, Heads) else [self.margin]

    def optimizers(self) -> list[torch.optim.Optimizer | HeadOptimizers]:
        return [self.optimizer] if self.head_optimizer is None else [self.optimizer, self.head_optimizer]

    def gradients(self) -> list[Tensor]:
        """All gradients there are in this process, those of sampled centres too."""
        return [*self.network_gradients(), *self.head_gradients(), *self.margin_gradients()]

    def network_gradients(self) -> list[Tensor]:
        modules = [self.network] if self.distiller is None else [self.network, self.distiller]
        parameters = (parameter for module in modules for parameter in module.parameters())
        return [parameter.grad for parameter in parameters if parameter.grad is not None]

    def head_gradients(self) -> list[Tensor]:
        """Of centres and biases, of the classes that this process has."""
        weights = [weight for head, _ in self.heads() for weight in (head.centres, head.bias) if weight is not None]
        sampled = [grad for head, _ in self.heads() for _, grad in head.gradients]
        return [*(weight.grad for weight in weights if weight.grad is not None), *sampled]

    def margin_gradients(self) -> list[Tensor]:
        """Of what margins learn: the same in every process."""
        parameters = (parameter for margin in self.margins() for parameter in margin.parameters())
        return [parameter.grad for parameter in parameters if parameter.grad is not None]


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
    network = build_network(config.network)
    margin = build_margin(config.margin.name, config.margin.options, plan.num_classes)
    head = None
    if not isinstance(margin, TripletLoss):
        head = plan_head(config, plan.num_classes, network.embedding_dim).estimate(margin, device)
    classifier = build_classifier(config, margin, network.embedding_dim, source)
    memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
    network.to(device, memory_format=memory_format)  # pyright: ignore[reportCallIssue]
    classifier.to(device)
    origin = None
    if config.init_from is not None and not config.resume:
        start = Start(config.init_from, config.init_match, config.init_images)
        origin = start_from(start, network, classifier, source, spec, device)
    check_strategy(config, precision)
    replicas = Replicas(network, device, config.distributed, precision, compiled=config.compile)
    sparsest = sparsest_layers(network)
    optimizer = build_optimizer(config.optimizer, network, plan.base_lr, SPARSEST_LR_FACTOR if sparsest else 1.0)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    distiller = build_distiller(config.distillation, spec, network.embedding_dim, device, scaler)
    if distiller is not None and distiller.projection is not None:
        optimizer.add_param_group({"params": list(distiller.parameters()), "lr_factor": 1.0})
    seed_process(config.seed)
    return Trainer(
        plan=plan,
        device=device,
        source=source,
        spec=spec,
        network=network,
        replicas=replicas,
        average=make_average(network, config.ema),
        classifier=classifier,
        margin=margin,
        margin_schedule=build_margin_schedule(config.margin, plan),
        optimizer=optimizer,
        head_optimizer=build_head_optimizer(config, classifier, plan.base_lr),
        scaler=scaler,
        schedule=build_schedule(config, plan),
        augmentation=build_augmentation(config.augment),
        autocast=lambda: torch.autocast(device.type, precision, enabled=precision != torch.float32),
        memory_format=memory_format,
        head=head,
        head_timer=HeadTimer(device),
        sparsest=sparsest,
        origin=origin,
        distiller=distiller,
    )


def build_network(config: NetworkConfig) -> FaceNetwork:
    return create_model(config.name, embedding_dim=config.embedding_dim, image_size=config.image_size, **config.options)


def build_optimizer(
    config: OptimizerConfig, network: FaceNetwork, lr: float, undecayed_lr_factor: float
) -> torch.optim.Optimizer:
    """The network's optimiser; its mixing logits learn at `undecayed_lr_factor` of the learning rate, undecayed."""
    return make_optimizer(
        config.name,
        network,
        lr=lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        undecayed=mixing_logits(network),
        undecayed_lr_factor=undecayed_lr_factor,
        lr_factors=config.lr_factors,
    )


def check_strategy(config: Config, precision: torch.dtype) -> None:
    """Raise `UserError` for what FSDP cannot be joined with."""
    if config.distributed.strategy != "fsdp":
        return
    for key, used in (("ema", bool(config.ema)), ("precision=fp16", precision == torch.float16)):
        if used:
            raise UserError(f"distributed.strategy=fsdp does not go with {key}; leave it out, or take strategy=ddp")


def make_average(network: FaceNetwork, share: float) -> AveragedModel | None:
    """The exponential moving average of `network`, which keeps this `share` in each step; None for 0."""
    if not share:
        return None
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(share), use_buffers=True)


def build_classifier(
    config: Config, margin: Plain | TripletLoss, embedding_dim: int, source: Source
) -> PartialFC | Heads | TripletLoss:
    """The class centres under `margin`, or for each of several sets its own; a triplet loss has none and stands for
    itself."""
    if isinstance(margin, TripletLoss):
        if config.classifier != type(config.classifier)():
            raise UserError(
                "the keys of classifier are for class centres, and margin.name=triplet has none; leave them out"
            )
        return margin
    if not (isinstance(source, MixedSource) and isinstance(config.data, MixedData) and config.data.classes == "heads"):
        return build_head(config, margin, embedding_dim, source)
    return Heads([_head_of_part(config, embedding_dim, part) for part in source.parts])


def _head_of_part(config: Config, embedding_dim: int, part: Source) -> PartialFC:
    margin = build_margin(config.margin.name, config.margin.options, len(part.class_names))
    assert not isinstance(margin, TripletLoss)
    return build_head(config, margin, embedding_dim, part)


def build_head(config: Config, margin: Plain, embedding_dim: int, source: Source) -> PartialFC:
    return PartialFC(
        embedding_dim,
        len(source.class_names),
        margin,
        config.classifier.sample_rate,
        sub_centers=config.classifier.sub_centers,
        label_smoothing=config.classifier.label_smoothing,
        centres=config.classifier.centres,
        product=config.classifier.product,
        same_for_any_world=config.classifier.same_for_any_world,
        class_weights=build_class_weights(config.classifier, source),
    )


def build_class_weights(config: ClassifierConfig, source: Source) -> Tensor | None:
    """The weight of each class, (C,), by its images in `source`; None where all are alike."""
    counts = np.bincount(source.labels, minlength=len(source.class_names))
    if config.class_weights == "inverse":
        return inverse_frequency(counts, config.class_weight_power)
    if config.class_weights == "effective":
        return effective_number(counts, config.class_weight_beta)
    return None


def plan_head(config: Config, num_classes: int, embedding_dim: int) -> HeadPlan:
    return HeadPlan(
        num_classes=num_classes,
        embedding_dim=embedding_dim,
        sample_rate=config.classifier.sample_rate,
        sub_centers=config.classifier.sub_centers,
        processes=world_size(),
        centres=config.classifier.centres,
        state=config.classifier.state,
        optimizer=config.optimizer.name,
        product=config.classifier.product,
        update=config.classifier.update,
        batch_size=config.batch_size,
        passes=choose_accumulate(config),
    )


def build_head_optimizer(
    config: Config, classifier: PartialFC | Heads | TripletLoss, lr: float
) -> CentreOptimizer | HeadOptimizers | None:
    if isinstance(classifier, TripletLoss):
        return None
    return classifier.make_optimizer(
        lr,
        config.optimizer.momentum,
        config.optimizer.weight_decay,
        name=config.optimizer.name,
        update=config.classifier.update,
        state=config.classifier.state,
    )


def check_size(source: Source, spec: InputSpec) -> None:
    """Raise `UserError` where the first image that can be read has another size: better now than in the first step."""
    for part in source.parts if isinstance(source, MixedSource) else ():
        check_size(part, spec)
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
    accumulate = choose_accumulate(config)
    global_batch = config.batch_size * world_size() * accumulate
    num_images = epoch_images(source)
    steps = config.steps or math.ceil((config.epochs or 0) * num_images / global_batch)
    return Plan(
        num_images=num_images,
        num_classes=len(source.class_names),
        global_batch=global_batch,
        accumulate=accumulate,
        total_steps=max(1, steps),
        base_lr=config.optimizer.lr * global_batch / (config.reference_batch or global_batch),
    )


def choose_accumulate(config: Config) -> int:
    """Passes a step: those asked for, or as many as bring the global batch nearest to `reference_batch`."""
    if config.accumulate != "auto":
        return config.accumulate
    one_pass = config.batch_size * world_size()
    return max(1, round((config.reference_batch or one_pass) / one_pass))


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


def build_margin(name: str, options: Mapping[str, Any], num_classes: int) -> Plain | TripletLoss:
    """A margin of the table with its options; `num_classes` goes to those that depend on it.

    Raises `UserError` for an option that is unknown, or not of the type in the margin's signature.
    """
    factory = LOSSES[name]
    kinds = get_type_hints(factory.__init__)
    derived = {"num_classes": num_classes} if "num_classes" in kinds else {}
    allowed = [option for option in inspect.signature(factory).parameters if option not in derived]
    for option, value in options.items():
        if option not in allowed:
            raise unknown(f"option of margin {name!r}", option, allowed)
        check_option(f"margin.options.{option}", value, kinds[option])
    return factory(**derived, **options)


def check_option(key: str, value: Any, kind: Any) -> None:
    """Raise `UserError` unless `value` is of the annotated `kind`: float, int, bool or a Literal of strings."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise unknown(f"value of {key}:", value, list(get_args(kind)))
        return
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        expected = {float: "a number", int: "a whole number", bool: "true or false"}[kind]
        raise UserError(f"{key}: expected {expected}, got {value!r}")


def build_margin_schedule(config: MarginConfig, plan: Plan) -> Callable[[int], dict[str, float]]:
    """A function step (from 0) -> the scheduled options of the margin and their values in that step.

    Raises `UserError` for an option that is none or not a number, a value out of its range, and epochs that do not
    rise.
    """
    kinds = get_type_hints(LOSSES[config.name].__init__)
    numbers = [option for option, kind in kinds.items() if kind is float]
    for option, points in config.schedule.items():
        if option not in numbers:
            raise unknown(f"option in margin.schedule of {config.name!r}", option, numbers)
        if any(left >= right for (left, _), (right, _) in pairwise(points)):
            raise UserError(f"margin.schedule.{option}: the epochs must rise, got {[epoch for epoch, _ in points]}")
        for _, value in points:  # what lies between is in range too: every range is an interval
            build_margin(config.name, {**config.options, option: value}, plan.num_classes)

    def at(step: int) -> dict[str, float]:
        epoch = plan.epoch(step)
        return {option: piecewise_linear(points, epoch) for option, points in config.schedule.items()}

    return at


def build_augmentation(augment: Augment) -> Augmentation:
    return Augmentation(**augment.model_dump(exclude={"preset"}))


def build_loader(config: Config, trainer: Trainer, first_step: int) -> Loader:
    """This process's batches from `first_step` to the end; `accumulate` of them make one step."""
    accumulate = trainer.plan.accumulate
    order = build_order(config, trainer, first_step * accumulate, trainer.plan.total_steps * accumulate)
    return Loader(
        cached(trainer.source, config.loader.cache, trainer.spec),
        order,
        trainer.spec,
        workers=default_workers() if config.loader.workers is None else config.loader.workers,
        prefetch=config.loader.prefetch,
        max_unreadable=config.loader.max_unreadable,
        pin_memory=trainer.device.type == "cuda",
        decoder=nvimagecodec(trainer.device) if config.loader.decoder == "nvimagecodec" else None,
    )


def build_order(config: Config, trainer: Trainer, first: int, last: int) -> Order:
    """The images of this process's batches `first` .. `last` - 1, as `config.sampler` has them."""
    position = {"seed": config.seed, "first": first, "last": last, "rank": rank(), "world": world_size()}
    if config.sampler.name == "shuffle":
        draw = build_draw(config, trainer.source)
        return BatchOrder(num_images=trainer.plan.num_images, batch_size=config.batch_size, **position, draw=draw)
    if config.sampler.window is not None or trainer.plan.num_images != len(trainer.source):
        raise UserError(f"sampler.name={config.sampler.name} takes neither sampler.window nor weights of data.parts")
    if config.sampler.name == "balanced":
        return BalancedOrder(
            labels=trainer.source.labels, power=config.sampler.power, batch_size=config.batch_size, **position
        )
    identities, rest = divmod(config.batch_size, config.sampler.images_per_identity)
    if rest or not identities:
        raise UserError(
            f"sampler.name=pk needs a batch_size that is a multiple of sampler.images_per_identity, got"
            f" {config.batch_size} and {config.sampler.images_per_identity}"
        )
    return IdentityOrder(
        labels=trainer.source.labels,
        identities=identities,
        images_per_identity=config.sampler.images_per_identity,
        **position,
    )


def build_draw(config: Config, source: Source) -> Draw | None:
    """What stands where in an epoch; None for any image anywhere."""
    if config.sampler.window is not None:
        return LocalDraw(storage_of(source), config.sampler.window)
    return source.draw if isinstance(source, MixedSource) else None
