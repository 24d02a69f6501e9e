"""The network, the class centres and the losses it is trained by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from faceprint.config.section import Fraction, NonNegative, Positive, PositiveInt, Section


class Network(Section):
    """The network that is trained."""

    name: str = "mbf"
    """A name of `list_models()`."""
    embedding_dim: PositiveInt | None = None
    """Dimensions of the embedding; null: the network's own default."""
    image_size: tuple[PositiveInt, PositiveInt] = (112, 112)
    """Height and width of the aligned faces, in pixels."""
    options: dict[str, Any] = {}
    """Further arguments of the network's builder, such as `output: FC`."""


class Input(Section):
    """What the network sees of an image; written into the model file."""

    colour: Literal["rgb", "bgr"] = "rgb"
    """Order of the colour channels."""
    mean: float = 127.5
    """Subtracted from 0..255 pixels."""
    std: Positive = 127.5
    """Divides what is left."""


class MarginConfig(Section):
    """The margin of the loss."""

    name: str = "cosface"
    """A margin of the table below; `triplet` compares images with each other instead of with class centres."""
    options: dict[str, Any] = {}
    """Arguments of the margin, such as `scale: 64.0` and `margin: 0.4`."""
    schedule: dict[str, Annotated[list[tuple[NonNegative, float]], Field(min_length=1)]] = {}
    """Numeric options that change during training: `margin: [[0, 0.0], [5, 0.5]]` rises from 0 to 0.5 over the first
    five epochs and stays there. Between the points [epoch, value] it is linear."""


class Classifier(Section):
    """The class centres."""

    sample_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the classes that a step compares with (Partial FC); 1: all of them."""
    sub_centers: PositiveInt = 1
    """Centres a class, of which the nearest counts: 3 suits noisy data (sub-center ArcFace)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target spread evenly over the classes."""
    class_weights: Literal["none", "inverse", "effective"] = "none"
    """Weight of each image's loss by the images of its class, n, with mean 1 over all images: n^-power, or the inverse
    of the effective number of images, (1 - beta) / (1 - beta^n) (Cui et al. 2019)."""
    class_weight_power: Fraction = 0.5
    """Of `inverse`: 0 weighs every image alike, 1 every class."""
    class_weight_beta: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of `effective`: 0 weighs every image alike, near 1 every class; past 1 / (1 - beta) images of a class, more of
    them count little."""
    update: Literal["sampled", "dense"] = "sampled"
    """Centres left out of a step stay as they are, or move exactly as SGD would move them."""
    centres: Literal["fp32", "bf16"] = "fp32"
    """Type that centres are stored in; bf16 takes half the memory and is rounded stochastically."""
    state: Literal["fp32", "bf16"] = "fp32"
    """Type of the optimiser's state of the centres."""
    product: Literal["fp32", "bf16"] = "fp32"
    """Type that embeddings and centres are multiplied in."""
    same_for_any_world: bool = False
    """Sample the same classes whatever the number of processes."""


class Distillation(Section):
    """A teacher whose embeddings the network learns to resemble, besides telling people apart."""

    teacher: Path | None = None
    """A run folder, a model folder or an ONNX file; null: none."""
    weight: Positive = 1.0
    """Of the distillation loss beside that of the margin."""
    loss: Literal["embedding", "relation", "both"] = "embedding"
    """embedding: 1 - cosine to the teacher's embedding of the same image; relation: distances and angles among the
    images of a batch (relational knowledge distillation), for which the dimensions may differ; both: their sum."""
