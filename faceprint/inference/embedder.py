"""Images in, embeddings out, whatever file the network came from."""

from __future__ import annotations

import hashlib
import json
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union

import numpy as np
from numpy.typing import NDArray

from faceprint.data.images import Image, read_image
from faceprint.data.model_files import file_sha256
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.inference.hub import local_model
from faceprint.inference.model_card import ModelCard

if TYPE_CHECKING:
    import torch

    from faceprint.models import FaceNetwork

T = TypeVar("T")
Floats = NDArray[np.float32]
Progress = Callable[[int, int], None]
Given = Union[str, "os.PathLike[str]", Image]
"""An image: a file's path, or uint8 (H, W, 3) RGB."""


class BadEmbeddingError(UserError):
    """An embedding that is not finite, or has no direction."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Embeddings:
    """`vectors` (N, D) float32, each of length 1, and what making them so lost.

    `norms` (N,) float32 are the lengths that the vectors had: norms[:, None] * vectors is what the network gave, with
    flip the sum of both views. `view_norms` (N,) are the mean lengths of the network's outputs for the image and, with
    flip, its mirror image; their mean over a set is the XNorm that arcface_torch prints.
    """

    vectors: Floats
    norms: Floats
    view_norms: Floats


@dataclass(frozen=True, eq=False, kw_only=True)
class Embedder:
    """A network with what it needs to know about its input.

    `features` takes float32 (B, 3, H, W), prepared as `input` says, and returns raw embeddings float32 (B, D),
    D = `embedding_dim`. `threshold` is the cosine above which two images are taken for one person, None where the
    model has none stored. `name` stands in results and messages. `card` is None for a foreign ONNX file.
    `content_hash()` changes with the weights and the graph; None where these change themselves, as in training.
    `runs_on` is the kind of device: others compute the same to some digits only.
    """

    features: Callable[[Floats], Floats]
    input: InputSpec
    embedding_dim: int
    name: str
    threshold: float | None = None
    card: ModelCard | None = None
    content_hash: Callable[[], str] | None = None
    runs_on: str = "cpu"

    def embed(
        self,
        images: Iterable[Given],
        *,
        flip: bool = False,
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> Floats:
        """Embeddings of N images: float32 (N, D), each of length 1, in the order given.

        `images` are paths or uint8 (H, W, 3) RGB arrays of the network's size; they are read batch by batch, each
        while the one before is computed. With `flip` an embedding is f(x) + f(mirrored x), raw outputs, normalised
        after the sum: the rule of the published verification results. `progress` gets (images done, images in
        all; 0 where `images` does not know). Raises `UserError` for an image that cannot be read or has another
        size, and `BadEmbeddingError` for an embedding that is not finite or has no direction (length 0).
        """
        return self.embed_with_norms(images, flip=flip, batch_size=batch_size, progress=progress).vectors

    def embed_with_norms(
        self,
        images: Iterable[Given],
        *,
        flip: bool = False,
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> Embeddings:
        """As `embed`, with the lengths that the embeddings had. Raises as `embed` does."""
        if isinstance(images, str | os.PathLike) or (isinstance(images, np.ndarray) and images.ndim == 3):
            raise UserError("embed takes several images; give a list, also for a single one: embed([image])")
        if batch_size < 1:
            raise UserError(f"batch_size {batch_size}: give 1 or more")
        total = operator.length_hint(images, 0)
        vectors = [np.empty((0, self.embedding_dim), np.float32)]
        norms: list[Floats] = [np.empty(0, np.float32)]
        view_norms: list[Floats] = [np.empty(0, np.float32)]
        done = 0
        for names, batch in _ahead(self._batches(iter(images), batch_size)):
            views = [self.features(batch)]
            if flip:
                views.append(self.features(np.ascontiguousarray(batch[..., ::-1])))
            raw = views[0] + views[1] if flip else views[0]
            lengths = _lengths(raw)
            vectors.append(self._normalize(raw, lengths, names))
            norms.append(lengths.astype(np.float32))
            view_norms.append(np.stack([*map(_lengths, views)]).mean(axis=0).astype(np.float32))
            done += len(batch)
            if progress:
                progress(done, total)
        return Embeddings(
            vectors=np.concatenate(vectors), norms=np.concatenate(norms), view_norms=np.concatenate(view_norms)
        )

    def similarity(self, a: Given | Floats, b: Given | Floats, *, flip: bool = False) -> float:
        """Cosine of two faces, -1 to 1; each is an image, as in `embed`, or an embedding, floating (D,).

        Raises `UserError` as `embed` does, and for an embedding of another length.
        """
        first, second = (self._direction(given, flip) for given in (a, b))
        return float(np.clip(first @ second, -1.0, 1.0))

    def _direction(self, given: Any, flip: bool) -> NDArray[np.float64]:
        """The embedding of `given`, float64 (D,), of length 1."""
        if isinstance(given, np.ndarray) and given.dtype != np.uint8:
            if given.shape != (self.embedding_dim,):
                raise UserError(
                    f"got {given.dtype} {given.shape}; {self.name} compares uint8 images (H, W, 3) and embeddings"
                    f" ({self.embedding_dim},)"
                )
            embedding = self._normalize(given[None], _lengths(given[None]), ["the embedding given"])[0]
        else:
            embedding = self.embed([given], flip=flip)[0]
        exact = embedding.astype(np.float64)
        return exact / np.linalg.norm(exact)

    def _batches(self, images: Iterator[Given], batch_size: int) -> Iterator[tuple[list[str], Floats]]:
        """Names and network inputs (B, 3, H, W) of the images, `batch_size` at a time."""
        start = 0
        while chosen := list(islice(images, batch_size)):
            names = [_name(given, start + at) for at, given in enumerate(chosen)]
            pixels = [_read(given) for given in chosen]
            for image, name in zip(pixels, names, strict=True):
                self.input.check(image, name)
            yield names, self.input.prepare(np.stack(pixels))
            start += len(chosen)

    def _normalize(self, raw: NDArray[np.floating[Any]], lengths: NDArray[np.float64], names: list[str]) -> Floats:
        bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
        if len(bad):
            what = "zero" if lengths[bad[0]] == 0 else "not finite"
            raise BadEmbeddingError(
                f"{names[int(bad[0])]}: its embedding is {what}; the weights of {self.name}, or its input mean"
                f" {self.input.mean} and std {self.input.std}, are wrong"
            )
        return (raw / lengths[:, None]).astype(np.float32)


def load(
    path: str | os.PathLike[str], input_overrides: Mapping[str, str] | None = None, device: str = "auto"
) -> Embedder:
    """Open a run folder, a model folder or an ONNX file, here or on a hub (`hf://owner/name`, see `local_model`).

    `input_overrides` says what a foreign ONNX file takes: colour ("rgb", "bgr"), mean, std (of 0..255 pixels) and
    size ("112x112", height x width); by default rgb, 127.5, 127.5 and the file's own size. A model that states its
    input itself cannot be overruled. `device`: auto, cpu, cuda, mps. Raises `UserError` for anything that is not
    such a model.
    """
    found = local_model(path)
    if found.suffix.lower() == ".onnx" and not found.is_dir():
        return _load_onnx(found, input_overrides or {}, device)
    if found.is_file():
        raise UserError(f"{path}: not a model; give a run folder, a model folder or an ONNX file (.onnx)")
    return _load_folder(found, input_overrides or {}, device)


def network_embedder(
    network: FaceNetwork, spec: InputSpec, device: torch.device, *, name: str, card: ModelCard | None = None
) -> Embedder:
    """`network`, which is on `device` and takes what `spec` says, as an `Embedder`; it is put into evaluation mode."""
    from faceprint.inference.torch_features import torch_features

    return Embedder(
        features=torch_features(network, device),
        input=spec,
        embedding_dim=network.embedding_dim,
        name=name,
        threshold=card.threshold if card else None,
        card=card,
        runs_on=device.type,
    )


def _load_onnx(path: Path, overrides: Mapping[str, str], device: str) -> Embedder:
    from faceprint.inference.onnx_model import open_onnx

    network = open_onnx(path, overrides, device)
    return Embedder(
        features=network.features,
        input=network.input,
        embedding_dim=network.embedding_dim,
        name=str(path),
        threshold=network.card.threshold if network.card else None,
        card=network.card,
        content_hash=lambda: _files_hash(network.files),
        runs_on="cpu" if network.on_cpu else "cuda",
    )


def _load_folder(path: Path, overrides: Mapping[str, str], device: str) -> Embedder:
    import torch

    from faceprint.device import resolve_device
    from faceprint.inference.folding import fold_norms
    from faceprint.inference.input_overrides import refuse_contradiction
    from faceprint.inference.model_folder import load_model

    where = resolve_device(device)
    network, card = load_model(path)
    refuse_contradiction(overrides, card.input, str(path))
    network = fold_norms(network).to(where)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - torch's stub lacks this form
    embedder = network_embedder(network, card.input, where, name=str(path), card=card)
    return replace(embedder, content_hash=lambda: _card_hash(card))


def _files_hash(files: Sequence[Path]) -> str:
    """SHA-256 of one file as it is; of several, of their hashes."""
    hashes = [file_sha256(file) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _card_hash(card: ModelCard) -> str:
    """Of the weights, by their own hash, and of the network that they are put into."""
    what = {"architecture": card.architecture, "options": card.options, "weights": card.content_hash}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _lengths(raw: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return np.linalg.norm(raw.astype(np.float64), axis=1)


def _read(given: Given) -> Image:
    return given if isinstance(given, np.ndarray) else read_image(given)


def _name(given: Given, number: int) -> str:
    return f"image {number}" if isinstance(given, np.ndarray) else str(given)


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """`items`, each made in a thread while the one before it is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
