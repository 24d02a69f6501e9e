"""What others reached by a recipe."""

from __future__ import annotations

from typing import Literal

from faceprint.config.section import NonNegative, Positive, PositiveInt, Section


class Score(Section):
    """One figure of a published table."""

    protocol: str
    """The test set, such as LFW or IJB-C."""
    metric: str
    """What is counted, such as accuracy or TAR@FAR=1e-4."""
    value: float
    """As printed, in `unit`."""
    std: NonNegative | None = None
    """Standard deviation over folds, where the table prints one."""
    unit: Literal["%", "fraction"] = "%"
    """Of `value` and `std`."""


class Published(Section):
    """What others reached by this recipe, and with what; `faceprint zoo` shows it beside the network measured here."""

    source: str
    """Document or paper that prints the figures."""
    row: str
    """Name of its row."""
    dataset: str
    """Training set."""
    num_images: PositiveInt
    """Of the training set, by its publishers: what `data.path` should hold."""
    num_identities: PositiveInt
    """The same of its people."""
    gpus: PositiveInt
    """How many shared the batch; each had `batch_size` images."""
    size_mb: Positive | None = None
    """Size of the file of weights; null: not printed."""
    scores: list[Score] = []
    """The figures; empty: the table has none for this row."""
    note: str = ""
    """What a reader must know to compare."""
