"""Where a protocol's embeddings come from: a network, or a file of features made elsewhere."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from faceprint.evaluation.embeddings import EmbeddingSet, Embeds, ImageSet, Progress, embed_set
from faceprint.evaluation.feature_files import select_rows


class EmbeddingSource(Protocol):
    """Gives a protocol the embeddings of its images."""

    @property
    def name(self) -> str: ...

    def embed(self, images: ImageSet) -> tuple[EmbeddingSet, dict[str, Any]]:
        """Row i is image i; and what belongs into a result about them. Raises `UserError`."""
        ...


@dataclass(frozen=True, eq=False)
class ModelSource:
    """A network that embeds images by `embed_set`, whose arguments the others are.

    By default an image's embedding is f(x) + f(mirrored x), raw outputs, normalised after the sum: the published rule.
    It says `flip`, `images_computed`, and `images_per_second` of these, null where all came from the cache.
    """

    embedder: Embeds
    flip: bool = True
    batch_size: int = 64
    cache: str | os.PathLike[str] | None = None
    dtype: Literal["float32", "float16"] = "float32"
    skip_unreadable: bool = False
    progress: Progress | None = None

    @property
    def name(self) -> str:
        return self.embedder.name

    def embed(self, images: ImageSet) -> tuple[EmbeddingSet, dict[str, Any]]:
        """Raises as `embed_set`."""
        started = time.perf_counter()
        made = embed_set(
            self.embedder,
            images,
            flip=self.flip,
            batch_size=self.batch_size,
            cache=self.cache,
            dtype=self.dtype,
            skip_unreadable=self.skip_unreadable,
            progress=self.progress,
        )
        speed = round(made.computed / (time.perf_counter() - started), 1) if made.computed else None
        return made, {"flip": self.flip, "images_per_second": speed, "images_computed": made.computed}


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """Embeddings that are there; a protocol's images are found among them by `select_rows`, which may raise."""

    embeddings: EmbeddingSet
    name: str

    def embed(self, images: ImageSet) -> tuple[EmbeddingSet, dict[str, Any]]:
        return select_rows(self.embeddings, images.keys), {}
