"""The classifier of a configuration: its class centres, what they take, and their optimiser."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from faceprint.classifier import CentreOptimizer, HeadOptimizers, Heads, PartialFC, TripletLoss
from faceprint.classifier.estimate import HeadEstimate, HeadPlan
from faceprint.classifier.weighting import effective_number, inverse_frequency
from faceprint.config import Classifier as ClassifierConfig
from faceprint.config import Config, MixedData
from faceprint.data.mixed import MixedSource
from faceprint.data.source import Source
from faceprint.distributed import world_size
from faceprint.errors import UserError
from faceprint.margins.plain import Plain
from faceprint.training.losses import build_margin
from faceprint.training.plan import choose_accumulate


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


def estimate_head(
    config: Config, margin: Plain | TripletLoss, num_classes: int, embedding_dim: int, device: torch.device
) -> HeadEstimate | None:
    """What the classifier will take, before it is made; None for a loss without class centres."""
    if isinstance(margin, TripletLoss):
        return None
    return plan_head(config, num_classes, embedding_dim).estimate(margin, device)


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
