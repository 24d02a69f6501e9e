"""Galleries: the search is brute force, files round-trip, other models and hostile files are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.inference.embedder import Embedder
from faceprint.inference.gallery import Gallery, new_gallery, open_gallery

DIM = 6


def embedder(content_hash: str | None = "sha256:a", spec: InputSpec | None = None) -> Embedder:
    return Embedder(
        features=lambda batch: np.zeros((len(batch), DIM), np.float32),
        input=spec or InputSpec(size=(8, 8)),
        embedding_dim=DIM,
        name="a.onnx",
        content_hash=None if content_hash is None else lambda: content_hash,
    )


def unit(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def enrolled(counts: list[int], seed: int = 0) -> Gallery:
    """Person P0 with counts[0] images, P1 with counts[1] …, in mixed order."""
    people = [f"P{number}" for number, count in enumerate(counts) for _ in range(count)]
    people = np.random.default_rng(seed).permutation(people).tolist()
    images = [f"{person}/{row}.png" for row, person in enumerate(people)]
    return new_gallery(embedder(), flip=False).added(unit(len(people), seed), people, images)


@pytest.mark.parametrize("counts", [[1], [1] * 9, [30, 1, 1], [5, 17, 2, 9, 1, 1, 4]])
@pytest.mark.parametrize("top", [1, 3, 50])
def test_search_is_brute_force(counts: list[int], top: int) -> None:
    gallery, queries = enrolled(counts, seed=len(counts)), unit(7, seed=99)
    cosines = queries.astype(np.float64) @ gallery.vectors.T.astype(np.float64)
    for found, row in zip(gallery.search(queries, top, device="cpu"), cosines, strict=True):
        best = {person: max(row[[p == person for p in gallery.people]]) for person in gallery.people}
        wanted = sorted(best.items(), key=lambda item: -item[1])[:top]
        assert [candidate.person for candidate in found] == [person for person, _ in wanted]
        np.testing.assert_allclose(
            [candidate.similarity for candidate in found], [cosine for _, cosine in wanted], atol=1e-6
        )
        assert all(row[gallery.images.index(c.image)] == pytest.approx(c.similarity, abs=1e-6) for c in found)


def test_an_empty_gallery_finds_nobody() -> None:
    assert new_gallery(embedder(), flip=False).search(unit(2), 3) == [[], []]


def test_added_again_replaced_and_removed() -> None:
    gallery = enrolled([2, 1])
    again = gallery.added(unit(1, seed=5), [gallery.people[0]], [gallery.images[0]])
    assert len(again) == 3
    np.testing.assert_array_equal(again.vectors[-1], unit(1, seed=5)[0])
    left = again.removed(["P0"])
    assert set(left.people) == {"P1"}
    assert len(left) == 1
    with pytest.raises(UserError, match="not in the gallery: Nobody, P0"):
        left.removed(["P0", "Nobody"])


@pytest.mark.parametrize("name", ["", "a\nb", "a\n", "a\u2028b"])
def test_names_of_one_line(name: str) -> None:
    with pytest.raises(UserError, match="one line"):
        enrolled([1]).added(unit(1), [name], ["x.png"])


def test_written_and_read(tmp_path: Path) -> None:
    gallery = enrolled([3, 2]).added(unit(1), ["Zoë \udcff 李"], ["weird \udc80.png"])
    gallery.save(tmp_path / "a.gallery")
    found = open_gallery(tmp_path / "a.gallery")
    assert (list(found.people), list(found.images), found.maker) == (
        list(gallery.people),
        list(gallery.images),
        gallery.maker,
    )
    np.testing.assert_array_equal(found.vectors, gallery.vectors)
    new_gallery(embedder(), flip=True).save(tmp_path / "none.gallery")
    assert len(open_gallery(tmp_path / "none.gallery")) == 0


def test_another_model_is_refused() -> None:
    gallery = enrolled([1])
    gallery.check_model(replace(embedder(), name="moved.onnx"))
    with pytest.raises(UserError, match="another model"):
        gallery.check_model(embedder("sha256:b"))
    with pytest.raises(UserError, match="--input"):
        gallery.check_model(embedder(spec=InputSpec(size=(8, 8), colour="bgr")))
    with pytest.raises(UserError, match="no content hash"):
        new_gallery(embedder(None), flip=False)


def damaged(key: str, value: np.ndarray | None) -> Callable[[Path], bytes]:
    def write(path: Path) -> bytes:
        enrolled([2]).save(path)
        tensors = safetensors.numpy.load(path.read_bytes())
        if value is None:
            del tensors[key]
        else:
            tensors[key] = value
        return safetensors.numpy.save(tensors)

    return write


@pytest.mark.parametrize(
    "make",
    [
        lambda _: b"",
        lambda _: b"\x80\x04garbage" * 9,
        lambda _: (1 << 60).to_bytes(8, "little") + b"{}",
        damaged("maker", None),
        damaged("maker", np.frombuffer(b"{}", np.uint8)),
        damaged("maker", np.frombuffer(b"[" * 9999, np.uint8)),
        damaged("person", np.frombuffer(b"only one", np.uint8)),
        damaged("person", np.zeros(3, np.float32)),
        damaged("embedding", np.full((2, DIM), np.nan, np.float32)),
        damaged("embedding", np.zeros((2, DIM), np.float32)),
        damaged("embedding", np.zeros((2,), np.float32)),
    ],
)
def test_hostile_files(make: Callable[[Path], bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.gallery"
    path.write_bytes(make(path))
    with pytest.raises(UserError, match=r"a\.gallery"):
        open_gallery(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        open_gallery(tmp_path / "a.gallery")
