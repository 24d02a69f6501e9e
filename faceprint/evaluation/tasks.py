"""What a protocol is that scores anything else than a list of pairs of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from faceprint.evaluation.embeddings import EmbeddingSet, ImageSet
from faceprint.evaluation.sources import EmbeddingSource, FeatureSource


@dataclass(frozen=True)
class ResultTable:
    """Texts for people."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@runtime_checkable
class Task(Protocol):
    """Images, what is made of their embeddings, and how that is shown."""

    @property
    def images(self) -> ImageSet: ...

    def score(self, embeddings: EmbeddingSet, *, draws: int = 0) -> dict[str, Any]:
        """Plain values for JSON; row i of `embeddings` is image i. Raises `UserError`.

        With `draws`, of people, also `intervals`, where the task knows its people.
        """
        ...

    def tables(self, result: Mapping[str, Any]) -> list[ResultTable]: ...


def score_task(source: EmbeddingSource, task: Task, *, draws: int = 0) -> dict[str, Any]:
    """The result of `task`, with `model` and what `source` says of its embeddings. Raises `UserError` as both do.

    `draws` are those of `Task.score`. Rows of a file without names are the images in the order of the protocol's list,
    where there are as many.
    """
    images = task.images
    if isinstance(source, FeatureSource) and _are_numbered(source.embeddings, len(images.names)):
        images = replace(images, keys=range(len(images.names)))
    embeddings, said = source.embed(images)
    unreadable = {"unreadable_images": len(embeddings.unreadable)} if embeddings.unreadable else {}
    return {**task.score(embeddings, draws=draws), "model": source.name, **said, **unreadable}


def _are_numbered(embeddings: EmbeddingSet, count: int) -> bool:
    """Whether the rows have their numbers for names, as `open_features` calls those of a file without names."""
    return len(embeddings) == count and embeddings.names[0] == "0" and embeddings.names[count - 1] == str(count - 1)
