"""A run: its own keys, and all sections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from faceprint.config.batches import Augment, Loader, Sampler
from faceprint.config.data import Data, MixedData
from faceprint.config.network import Classifier, Distillation, Input, MarginConfig, Network
from faceprint.config.published import Published
from faceprint.config.section import Count, Positive, PositiveInt, Section
from faceprint.config.training import Checkpoint, Distributed, Evaluation, Log, Optimizer, Schedule


class Config(Section):
    """One run. The defaults are those of a small network on generated identities."""

    recipe: str = ""
    """Name of the recipe, for the record."""
    description: str = ""
    """One line about the recipe, shown by `faceprint zoo`."""
    out: Path | None = None
    """The run folder; null: `runs/` and the recipe's name."""
    init_from: Path | None = None
    """Whose weights are the first: a run folder (class centres too), a model folder or a file of published weights;
    null: random ones."""
    init_match: bool = True
    """Of `init_from`: people who have the same name in both trainings keep their class centres. Say false where names
    are numbers that mean others here."""
    init_images: Count = 4
    """Of `init_from`: the centre of a person who is new begins as the mean embedding of so many of their images; 0: as
    random numbers."""
    seed: Count = 0
    """Of the first weights, the order of the data and the augmentation."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    """Where the network runs; auto: the first of cuda, mps and cpu that is there."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Type that the network computes in; auto: bf16 on a GPU that has it, else fp16; fp32 elsewhere."""
    compile: bool = False
    """Compile the network by `torch.compile`: slower to start, faster afterwards."""
    channels_last: bool = True
    """Keep the channels of a pixel side by side in memory: faster convolutions."""
    network: Network = Network()
    input: Input = Input()
    margin: MarginConfig = MarginConfig()
    classifier: Classifier = Classifier()
    data: Data
    """What is trained on; `data.source` says which kind of data it is."""
    sampler: Sampler = Sampler()
    loader: Loader = Loader()
    augment: Augment = Augment()
    batch_size: PositiveInt = 128
    """Images in one pass of the network, in each process."""
    accumulate: PositiveInt | Literal["auto"] = "auto"
    """Passes whose gradients make one step; the global batch is batch_size x processes x accumulate. auto: as many as
    bring it nearest to reference_batch, 1 where that is null."""
    reference_batch: PositiveInt | None = None
    """The global batch that learning rate and schedule are stated for; null: the actual one."""
    epochs: Positive | None = None
    """Length of the training in passes over the data."""
    steps: PositiveInt | None = None
    """Length of the training in steps. Give exactly one of `epochs` and `steps`."""
    skip_nonfinite: Count = 5
    """Steps in a row that may be left out because loss or gradient is not finite; one more stops the training."""
    optimizer: Optimizer = Optimizer()
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share that the moving average of all weights keeps in each step, such as 0.9998; evaluations and `model/` take
    the average. 0: none is kept."""
    schedule: Schedule = Schedule()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    distributed: Distributed = Distributed()
    distillation: Distillation = Distillation()
    log: Log = Log()
    licence: str = "not stated"
    """Of the trained weights, written into the model file."""
    dry_run: bool = False
    """Tuning mode: train and report, save nothing."""
    profile: bool = False
    """Trace five steps after the first ones: `profile/` in the run folder, and a table of the time by part."""
    resume: bool | Literal["last_good", "auto"] = False
    """Continue the run in `out` from its last checkpoint; last_good: from the newest that is whole; auto: so where
    there is one, else start, as suits jobs that a scheduler starts again."""
    resume_changes: list[str] = []
    """Keys, such as `optimizer`, that may differ from the run's own when it is resumed: the curve is another then."""
    published: Published | None = None
    """Of a recipe that reproduces a published row; does not change the training."""

    @model_validator(mode="after")
    def _one_length(self) -> Config:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"give exactly one of epochs and steps, got epochs={self.epochs}, steps={self.steps}")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if self.margin.name == "triplet" and isinstance(self.data, MixedData) and self.data.classes == "heads":
            raise ValueError("data.classes=heads is for class centres, and margin.name=triplet has none: say separate")
        for key in ("compress", "bucket_mb", "static_graph"):
            if self.distributed.strategy == "fsdp" and getattr(self.distributed, key) != getattr(Distributed(), key):
                raise ValueError(f"distributed.{key} is for distributed.strategy=ddp; leave it out")
        return self
