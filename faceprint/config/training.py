"""How the weights are changed, and what is measured, kept and written meanwhile."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from faceprint.config.section import Count, Fraction, NonNegative, Positive, PositiveInt, Section


class Optimizer(Section):
    """What changes the weights."""

    name: Literal["sgd", "adamw"] = "sgd"
    """Stochastic gradient descent with momentum, or AdamW."""
    lr: Positive = 0.1
    """Learning rate for the reference batch; scaled in proportion to the actual global batch."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of SGD; AdamW takes it as its first beta."""
    weight_decay: NonNegative = 5e-4
    """Applied to every weight, norms included."""
    clip_norm: Positive | None = None
    """Gradients of all weights together are scaled down to this length; null: they are not."""
    lr_factors: dict[str, NonNegative] = {}
    """Parts of the network with a learning rate of their own, as a pattern of weight names and a factor:
    `{"layer1.*": 0.1}`. The last pattern that matches counts; 0 freezes."""
    unfreeze: NonNegative | None = None
    """Epoch from which parts frozen by a factor of 0 train at the full learning rate; null: never."""


class Schedule(Section):
    """The learning rate over the training."""

    name: Literal["step", "polynomial", "cosine", "constant"] = "step"
    """How the learning rate falls after the warm-up."""
    unit: Literal["epoch", "step"] = "epoch"
    """What `warmup` and `milestones` count; steps are steps of the reference batch."""
    warmup: NonNegative = 0.0
    """Length of the linear rise from 0."""
    milestones: list[Positive] = []
    """Of `step`: where the learning rate is multiplied by `factor`."""
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Of `step`: what the learning rate is multiplied by at each milestone."""
    power: Positive = 2.0
    """Of `polynomial`: the exponent; 1 is a straight line."""
    final: Fraction = 0.0
    """Of `polynomial` and `cosine`: the learning rate at the end as a fraction of the first."""


class Evaluation(Section):
    """Evaluation during training."""

    protocols: list[dict[str, Any]] = []
    """Each `{protocol: NAME, ...}` with that protocol's options, as `faceprint eval` takes them."""
    every: Count = 2000
    """Evaluate every this many steps or epochs, and at the end; 0: at the end only."""
    unit: Literal["step", "epoch"] = "step"
    """What `every` counts."""
    keep: Literal["best", "last"] = "best"
    """Which weights end in `model/`: those with the best figure of the first protocol, or the last."""
    metric: str = "accuracy"
    """The figure that decides which weights are best, as the result names it: accuracy, auc, tar_at_far.1e-3."""
    patience: Count = 0
    """Stop after so many evaluations in a row without a better figure; 0: never."""
    before: bool = False
    """Evaluate before the first step too, as suits weights that come by `init_from`."""


class Checkpoint(Section):
    """What a stopped run continues from."""

    every: Count = 1000
    """Steps between checkpoints; 0: at the end only."""
    keep: PositiveInt = 2
    """How many of them stay, the newest; that of the best evaluation stays besides."""
    background: bool = True
    """Write while the training goes on, from a copy in memory; false saves that memory, and the training waits."""


class Distributed(Section):
    """Several processes that train one network."""

    compress: Literal["none", "bf16", "fp16"] = "none"
    """Type that the network's gradients travel in between processes; half the bytes for slow networks."""
    bucket_mb: PositiveInt = 25
    """Gradients are sent in pieces of about this many megabytes, each as soon as it is complete."""
    static_graph: bool = False
    """Promise that every step uses the same weights, which lets gradients be sent with less book-keeping, but after
    each pass of a step."""
    timeout_seconds: Positive = 600.0
    """How long a process waits for the others before the training fails."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """ddp: every process holds the whole network; fsdp: a share of its weights and of their optimiser's state, for
    networks that do not fit otherwise. Their checkpoints are alike, and either continues the other's."""


class Log(Section):
    """Figures written during training."""

    every: PositiveInt = 20
    """Steps between lines of `metrics.jsonl`."""
    loggers: list[Literal["tensorboard", "wandb", "mlflow", "visdom"]] = []
    """Where the same figures go besides `metrics.jsonl` and `training.log`. One that fails is left out with a
    warning."""
    project: str = "faceprint"
    """Of wandb: the project; of mlflow: the experiment."""
    visdom_server: str = "http://localhost"
    """Of visdom: where the server is."""
    visdom_port: Annotated[int, Field(ge=1, le=65535)] = 8097
    """Of visdom: its port."""
