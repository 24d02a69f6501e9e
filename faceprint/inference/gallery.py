"""A gallery: the embeddings of people who are enrolled, in one file, and who among them an image is nearest to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError

from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.files import write_whole
from faceprint.inference.embedder import Embedder
from faceprint.inference.neighbours import nearest
from faceprint.inference.output_file import check_output

__all__ = ["Candidate", "Gallery", "Maker", "new_gallery", "open_gallery"]

Floats = NDArray[np.float32]

SUFFIX = ".gallery"
_TEXTS = ("person", "image", "maker")


class Maker(BaseModel):
    """What made the embeddings of a gallery: those of another model, input or flip cannot be compared with them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["faceprint-gallery/1"] = "faceprint-gallery/1"
    name: str
    """As it was called; says nothing about its weights."""
    content_hash: str
    input: InputSpec
    flip: bool

    @classmethod
    def of(cls, embedder: Embedder, flip: bool) -> Maker:
        """Raises `UserError` for a model whose weights nothing identifies."""
        if embedder.content_hash is None:
            raise UserError(f"{embedder.name}: a model in training has no content hash; save it first")
        return cls(name=embedder.name, content_hash=embedder.content_hash(), input=embedder.input, flip=flip)


class Candidate(NamedTuple):
    """A person who is enrolled, the cosine of the nearest of their images, and that image."""

    person: str
    similarity: float
    image: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Gallery:
    """`vectors` float32 (N, D), each of length 1; row i is of `people[i]`, from the image `images[i]`."""

    maker: Maker
    vectors: Floats
    people: Sequence[str]
    images: Sequence[str]

    def __len__(self) -> int:
        return len(self.people)

    def check_model(self, embedder: Embedder) -> None:
        """Raise `UserError` unless `embedder` makes embeddings as those in the gallery were made."""
        theirs = Maker.of(embedder, self.maker.flip)
        if theirs.content_hash != self.maker.content_hash:
            raise UserError(
                f"the gallery's embeddings are of {self.maker.name} ({self.maker.content_hash[:19]}…); {embedder.name}"
                f" is another model ({theirs.content_hash[:19]}…), whose embeddings cannot be compared with them: use"
                " that one, or enrol everybody with this one in a new gallery"
            )
        if theirs.input != self.maker.input:
            raise UserError(
                f"the gallery was made with {self.maker.input!r}, {embedder.name} is opened with {theirs.input!r}; give"
                " --input as it was"
            )

    def added(self, vectors: Floats, people: Sequence[str], images: Sequence[str]) -> Gallery:
        """With these embeddings (M, D) besides; an image that the same person has already takes the old one's place.

        Raises `UserError` for another D, and for names that are empty or have line ends.
        """
        if len(self) and vectors.shape[1] != self.vectors.shape[1]:
            raise UserError(f"embeddings of {vectors.shape[1]} numbers; the gallery's have {self.vectors.shape[1]}")
        for name in (*people, *images):
            if name.splitlines() != [name]:
                raise UserError(f"{name!r}: people and images need names of one line")
        new = set(zip(people, images, strict=True))
        kept = self._rows([row for row, key in enumerate(zip(self.people, self.images, strict=True)) if key not in new])
        return Gallery(
            maker=self.maker,
            vectors=np.concatenate([kept.vectors, vectors]) if len(kept) else vectors,
            people=[*kept.people, *people],
            images=[*kept.images, *images],
        )

    def removed(self, people: Collection[str]) -> Gallery:
        """Without these people. Raises `UserError` for one who is not there."""
        if absent := sorted(set(people) - set(self.people)):
            raise UserError(f"not in the gallery: {', '.join(absent)}")
        return self._rows([row for row, person in enumerate(self.people) if person not in people])

    def search(self, queries: Floats, top: int, *, device: str = "auto") -> list[list[Candidate]]:
        """For each of `queries` (Q, D), each of length 1, the `top` people nearest to it, nearest first.

        A person is as near as the nearest of their images. Exact: all cosines are computed, in float32, in bounded
        memory (`nearest`), on `device`. Fewer where fewer are enrolled.
        """
        if not len(self):
            return [[] for _ in queries]
        enough = (top - 1) * self._most_images + 1  # so many images are of `top` people at least
        found = nearest(queries, self.vectors, min(len(self), enough), device=device)
        return [self._candidates(*rows, top) for rows in zip(found.row.tolist(), found.cosine.tolist(), strict=True)]

    @cached_property
    def _most_images(self) -> int:
        """Of one person."""
        return max(Counter(self.people).values())

    def _candidates(self, rows: Sequence[int], cosines: Sequence[float], top: int) -> list[Candidate]:
        best: dict[str, Candidate] = {}
        for row, cosine in zip(rows, cosines, strict=True):
            person = self.people[row]
            if person not in best:
                best[person] = Candidate(person, min(1.0, cosine), self.images[row])
            if len(best) == top:
                break
        return list(best.values())

    def _rows(self, rows: Sequence[int]) -> Gallery:
        return Gallery(
            maker=self.maker,
            vectors=self.vectors[list(rows)],
            people=[self.people[row] for row in rows],
            images=[self.images[row] for row in rows],
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file: `embedding`, and texts of one line an image. It is there whole or as before."""
        texts = {
            "person": "\n".join(self.people),
            "image": "\n".join(self.images),
            "maker": self.maker.model_dump_json(),
        }
        encoded = {key: np.frombuffer(text.encode(errors="surrogateescape"), np.uint8) for key, text in texts.items()}
        write_whole(Path(path), safetensors.numpy.save({"embedding": self.vectors, **encoded}))


def new_gallery(embedder: Embedder, *, flip: bool) -> Gallery:
    """A gallery of nobody, for embeddings of `embedder`. Raises `UserError` as `Maker.of`."""
    empty = np.empty((0, embedder.embedding_dim), np.float32)
    return Gallery(maker=Maker.of(embedder, flip), vectors=empty, people=[], images=[])


def check_gallery_name(path: Path) -> None:
    """Raise `UserError`, before long work, where `path` does not end as galleries do, or its folder is none."""
    check_output(path, SUFFIX)


def open_gallery(path: str | os.PathLike[str]) -> Gallery:
    """The gallery in a file of `Gallery.save`. Nothing in it is run. Raises `UserError` for anything else."""
    try:
        found = safetensors.numpy.load(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a gallery ({error})") from error
    if set(found) != {"embedding", *_TEXTS} or any(found[key].dtype != np.uint8 for key in _TEXTS):
        raise UserError(f"{path}: not a gallery; it holds {', '.join(sorted(found))[:200]}")
    try:
        texts = {key: found[key].tobytes().decode(errors="surrogateescape") for key in _TEXTS}
        maker = Maker.model_validate_json(texts["maker"])
    except ValidationError as error:
        raise UserError(f"{path}: not a gallery ({error.errors()[0]['msg']})") from error
    people, images = texts["person"].splitlines(), texts["image"].splitlines()
    vectors = found["embedding"]
    if vectors.dtype != np.float32 or vectors.ndim != 2 or not len(vectors) == len(people) == len(images):
        raise UserError(
            f"{path}: not a gallery: embeddings {vectors.dtype} {vectors.shape} of {len(people)} people's"
            f" {len(images)} images"
        )
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if not np.allclose(lengths, 1, atol=1e-3):
        raise UserError(f"{path}: not a gallery: an embedding is not of length 1")
    return Gallery(maker=maker, vectors=vectors, people=people, images=images)
