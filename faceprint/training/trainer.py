"""All that a training consists of, as the loop works with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from faceprint.classifier import CentreOptimizer, HeadOptimizers, Heads, PartialFC, TripletLoss
from faceprint.classifier.estimate import HeadEstimate
from faceprint.data.augment import Augmentation
from faceprint.data.pixels import InputSpec
from faceprint.data.source import Source
from faceprint.margins.plain import Plain
from faceprint.models import FaceNetwork
from faceprint.models.norms import SwitchNorm2d
from faceprint.training.distillation import Distiller
from faceprint.training.measure import HeadTimer
from faceprint.training.plan import Plan
from faceprint.training.replicas import Replicas
from faceprint.training.sources import fingerprint


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
