"""The zoo: every bundled recipe as a row, its network measured here beside what was published of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from faceprint.config import Config, Score
from faceprint.models.stats import Summary, summary
from faceprint.recipe import load_config

MIB = 2**20


@dataclass(frozen=True)
class Row:
    """One recipe; `network` is measured, `config.published` is what others printed (None for a recipe of our own)."""

    recipe: str
    config: Config
    network: Summary

    @property
    def document(self) -> str:
        """The folder of the recipe, one a document; empty for a recipe of our own."""
        return PurePosixPath(self.recipe).parent.as_posix().strip(".")

    @property
    def size_mib(self) -> float:
        """Weights and buffers in float32, in MiB: what the published sizes count as "MB"."""
        return self.network.state_bytes / MIB

    @property
    def published_size(self) -> float | None:
        """In "MB"; None where none is printed."""
        return self.config.published and self.config.published.size_mb

    @property
    def scores(self) -> list[Score]:
        """What was published; empty where nothing was."""
        return self.config.published.scores if self.config.published else []

    @property
    def training_flops(self) -> float | None:
        """Multiply-adds of the whole training, forward and backward; None where its length is stated in steps.

        The backward pass costs twice the forward one: a gradient by the input, and one by the weights.
        """
        published = self.config.published
        if published is None or self.config.epochs is None:
            return None
        return 3.0 * self.network.flops * published.num_images * self.config.epochs

    @property
    def commands(self) -> dict[str, str]:
        """Name -> command line that trains it: in one process, and in one for each published GPU."""
        published = self.config.published
        if published is None:
            return {"1 process": f"faceprint train {self.recipe}"}
        train = f"faceprint train {self.recipe} data.path=FOLDER"
        return {
            "1 process": train,
            f"{published.gpus} processes": f"torchrun --nproc-per-node {published.gpus} -m {train} accumulate=1",
        }


def zoo_row(recipe: str) -> Row:
    """Row of a bundled recipe or a YAML file; builds its network on the meta device. Raises `UserError` as
    `load_config` and `create_model` do."""
    config = load_config(recipe)
    network = config.network
    measured = summary(
        network.name, embedding_dim=network.embedding_dim, image_size=network.image_size, **network.options
    )
    return Row(recipe, config, measured)


def number_text(score: Score) -> str:
    """99.83 and 92.5833 in per cent, 0.99767 ± 0.00200 as a fraction: with the digits that tables print."""
    if score.unit == "%":
        return f"{score.value:.2f}" if score.value == round(score.value, 2) else f"{score.value:.4f}"
    return f"{score.value:.5f}" + ("" if score.std is None else f" ± {score.std:.5f}")


def score_text(score: Score) -> str:
    """`LFW accuracy 99.83 %`."""
    return f"{score.protocol} {score.metric} {number_text(score)}{' %' if score.unit == '%' else ''}"


def row_values(row: Row) -> dict[str, Any]:
    """The row as plain values for JSON; `flops` are multiply-adds of one image."""
    return {
        **asdict(row.network),
        "size_mib": round(row.size_mib, 2),
        "training_flops": row.training_flops,
        "commands": row.commands,
        "config": row.config.model_dump(mode="json"),
    }
