"""From a configuration to everything the loop needs: built, checked and resumed before anything is written."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from faceprint.classifier import Heads, PartialFC, TripletLoss
from faceprint.config import Config
from faceprint.config import Network as NetworkConfig
from faceprint.config import Optimizer as OptimizerConfig
from faceprint.data.images import ImageError
from faceprint.data.mixed import MixedSource
from faceprint.data.pixels import InputSpec
from faceprint.data.source import Source
from faceprint.device import resolve_device
from faceprint.errors import UserError
from faceprint.memory import keep_freed_memory
from faceprint.models import FaceNetwork, create_model
from faceprint.models.norms import mixing_logits, sparsest_layers
from faceprint.training.batches import build_augmentation
from faceprint.training.distillation import build_distiller
from faceprint.training.head import build_classifier, build_head_optimizer, estimate_head
from faceprint.training.initial import Start, start_from
from faceprint.training.losses import build_margin, build_margin_schedule
from faceprint.training.measure import HeadTimer
from faceprint.training.optim import make_optimizer
from faceprint.training.plan import build_schedule, make_plan
from faceprint.training.randomness import seed_process
from faceprint.training.replicas import Replicas
from faceprint.training.sources import build_source
from faceprint.training.trainer import Trainer

SPARSEST_LR_FACTOR = 0.1
"""Learning rate of the logits under SparsestMax beside the network's, as published."""


def build_trainer(config: Config) -> Trainer:
    """Everything from `config`, on its device, with weights drawn from `config.seed`. Writes nothing.

    Raises `UserError` for what does not fit together.
    """
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    check_strategy(config, precision)
    if device.type == "cpu":
        keep_freed_memory()
    source = build_source(config.data, config.network.image_size)
    spec = build_spec(config)
    check_size(source, spec)
    plan = make_plan(config, source)
    torch.manual_seed(config.seed)
    network = build_network(config.network)
    margin = build_margin(config.margin.name, config.margin.options, plan.num_classes)
    head = estimate_head(config, margin, plan.num_classes, network.embedding_dim, device)
    classifier = build_classifier(config, margin, network.embedding_dim, source)
    memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
    network.to(device, memory_format=memory_format)  # pyright: ignore[reportCallIssue]
    classifier.to(device)
    origin = set_first_weights(config, network, classifier, source, spec, device)
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


def build_spec(config: Config) -> InputSpec:
    size, what = config.network.image_size, config.input
    return InputSpec(size=size, colour=what.colour, mean=what.mean, std=what.std)


def build_network(config: NetworkConfig) -> FaceNetwork:
    return create_model(config.name, embedding_dim=config.embedding_dim, image_size=config.image_size, **config.options)


def set_first_weights(
    config: Config,
    network: FaceNetwork,
    classifier: PartialFC | Heads | TripletLoss,
    source: Source,
    spec: InputSpec,
    device: torch.device,
) -> str | None:
    """Take the weights of `init_from`, unless there is none or a run goes on. Returns where they came from."""
    if config.init_from is None or config.resume:
        return None
    start = Start(config.init_from, config.init_match, config.init_images)
    return start_from(start, network, classifier, source, spec, device)


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


def make_average(network: FaceNetwork, share: float) -> AveragedModel | None:
    """The exponential moving average of `network`, which keeps this `share` in each step; None for 0."""
    if not share:
        return None
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(share), use_buffers=True)


def check_strategy(config: Config, precision: torch.dtype) -> None:
    """Raise `UserError` for what FSDP cannot be joined with."""
    if config.distributed.strategy != "fsdp":
        return
    for key, used in (("ema", bool(config.ema)), ("precision=fp16", precision == torch.float16)):
        if used:
            raise UserError(f"distributed.strategy=fsdp does not go with {key}; leave it out, or take strategy=ddp")


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
