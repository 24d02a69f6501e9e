"""Protocols with an embedder whose answers are known: what reaches it, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceprint.data.bin import write_bin
from faceprint.data.images import Image
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.evaluation.pairs import PairSet
from faceprint.evaluation.protocols import (
    PROTOCOLS,
    SUITES,
    TASKS,
    evaluate,
    evaluate_pairs,
    load_protocol,
    pair_scores,
    protocol_options,
    summarize,
)
from faceprint.inference.embedder import Embeddings


class ColourEmbedder:
    """An image's embedding is its mean colour, less grey; the mirror image has the same."""

    name = "mean colour"
    embedding_dim = 3
    content_hash = None

    def __init__(self, size: tuple[int, int] = (112, 112)) -> None:
        self.input = InputSpec(size=size)
        self.seen: list[Image] = []
        self.flips: list[bool] = []

    def embed(
        self,
        images: Iterable[Image],
        *,
        flip: bool = False,
        batch_size: int = 64,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        return self.embed_with_norms(images, flip=flip, batch_size=batch_size, progress=progress).vectors

    def embed_with_norms(
        self,
        images: Iterable[Image],
        *,
        flip: bool = False,
        batch_size: int = 64,
        progress: Callable[[int, int], None] | None = None,
    ) -> Embeddings:
        self.seen = list(images)
        self.flips.append(flip)
        if progress:
            for done in range(0, len(self.seen), batch_size):
                progress(min(done + batch_size, len(self.seen)), 0)
        means = np.array([image.reshape(-1, 3).mean(axis=0) - 127.5 for image in self.seen])
        norms = np.linalg.norm(means, axis=1).astype(np.float32)
        vectors = (means / norms[:, None]).astype(np.float32)
        return Embeddings(vectors=vectors, norms=norms * (1 + flip), view_norms=norms)


def person(number: int, image: int = 0, size: tuple[int, int] = (112, 112)) -> np.ndarray:
    """People differ in colour; their images differ a little."""
    colour = np.array([255, 0, 0]) if number % 2 else np.array([0, 255 - 9 * number, 255])
    return np.broadcast_to(np.abs(colour - 3 * image), (*size, 3)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("Ann", "Bo", "Cy", "Di")):
        (tmp_path / name).mkdir()
        for image in (1, 2):
            cv2.imwrite(str(tmp_path / name / f"{name}_000{image}.png"), person(number, image)[..., ::-1])
    (tmp_path / "pairs.txt").write_text(
        "2\t2\nAnn\t1\t2\nBo\t1\t2\nAnn\t1\tBo\t1\nAnn\t2\tBo\t2\nCy\t1\t2\nDi\t1\t2\nCy\t1\tDi\t1\nDi\t2\tCy\t2\n"
    )
    return tmp_path


def test_table() -> None:
    assert list(PROTOCOLS) == ["pairs", "bin", "synthetic"]
    assert list(SUITES) == ["verification"]
    assert list(TASKS) == ["ijbb", "ijbc", "ijb_1n", "identification"]


def test_perfect_embeddings_by_every_file_route(folder: Path) -> None:
    embedder = ColourEmbedder()
    seen: list[tuple[int, int]] = []
    options = {"images": str(folder), "pairs": str(folder / "pairs.txt")}
    by_list = evaluate(embedder, "pairs", options, batch_size=3, progress=lambda *call: seen.append(call))
    assert seen == [(3, 8), (6, 8), (8, 8)]
    assert embedder.flips == [True]
    assert by_list.result["accuracy"] == by_list.result["auc"] == 1.0
    assert by_list.result["accuracy_std"] == by_list.result["eer"] == 0.0
    assert by_list.result["accuracy_rule"] == "2-fold, threshold from the other folds"
    assert by_list.result["model"] == "mean colour"
    assert {key: by_list.result[key] for key in ("num_pairs", "num_same", "num_different", "num_images")} == {
        "num_pairs": 8,
        "num_same": 4,
        "num_different": 4,
        "num_images": 8,
    }
    lines = ["path_a,path_b,same,fold"] + [
        f"{a}/{a}_000{i}.jpg,{b}/{b}_000{j},{int(a == b)},{fold}"
        for a, i, b, j, fold in [
            ("Ann", 1, "Ann", 2, 1), ("Bo", 1, "Bo", 2, 1), ("Ann", 1, "Bo", 1, 1), ("Ann", 2, "Bo", 2, 1),
            ("Cy", 1, "Cy", 2, 2), ("Di", 1, "Di", 2, 2), ("Cy", 1, "Di", 1, 2), ("Di", 2, "Cy", 2, 2),
        ]
    ]  # fmt: skip
    (folder / "pairs.csv").write_text("\n".join(lines))
    by_csv = evaluate(embedder, "pairs", {**options, "pairs": str(folder / "pairs.csv")}, flip=False)
    assert embedder.flips == [True, False]
    assert by_csv.scores.tolist() == by_list.scores.tolist()
    assert by_csv.result["flip"] is False
    files = [folder / f"{n}/{n}_000{i}.png" for a, b in
             [("Ann1", "Ann2"), ("Bo1", "Bo2"), ("Ann1", "Bo1"), ("Ann2", "Bo2"),
              ("Cy1", "Cy2"), ("Di1", "Di2"), ("Cy1", "Di1"), ("Di2", "Cy2")]
             for n, i in ((a[:-1], a[-1]), (b[:-1], b[-1]))]  # fmt: skip
    write_bin(folder / "a.bin", [file.read_bytes() for file in files], by_list.same)
    by_bin = evaluate(embedder, "bin", {"path": folder / "a.bin"})
    assert by_bin.scores.tolist() == by_list.scores.tolist()
    assert by_bin.result["protocol"] == "bin"


def made_up(num_folds: int, per_kind: int, dimension: int = 16) -> PairSet:
    """`num_folds` folds of pairs of images 2 i and 2 i + 1; nothing to read."""
    number = 2 * num_folds * per_kind
    return PairSet(
        protocol="pairs",
        names=[f"image {i}" for i in range(2 * number)],
        read=lambda i: np.zeros((112, 112, 3), np.uint8),
        first=np.arange(0, 2 * number, 2),
        second=np.arange(1, 2 * number, 2),
        same=np.tile(np.repeat([True, False], per_kind), num_folds),
        fold=np.repeat(np.arange(num_folds), 2 * per_kind),
    )


def test_random_embeddings_are_at_chance() -> None:
    pairs = made_up(10, 200)
    embeddings = np.random.default_rng(0).normal(size=(len(pairs.names), 16)).astype(np.float32)
    result = summarize(pair_scores(embeddings, pairs), pairs)
    assert abs(result["accuracy"] - 0.5) < 0.05
    assert abs(result["eer"] - 0.5) < 0.03
    assert abs(result["auc"] - 0.5) < 0.03
    assert list(result["tar_at_far"]) == ["1e-1", "1e-2", "1e-3"]
    assert result["false_accepts"] == {"1e-1": 200, "1e-2": 20, "1e-3": 2}


@pytest.mark.parametrize(
    ("different", "fars"), [(9, []), (10, ["1e-1"]), (99, ["1e-1"]), (1000, ["1e-1", "1e-2", "1e-3"])]
)
def test_only_fars_that_the_pairs_support(different: int, fars: list[str]) -> None:
    pairs = made_up(1, different)
    embeddings = np.random.default_rng(0).normal(size=(len(pairs.names), 4)).astype(np.float32)
    result = summarize(pair_scores(embeddings, pairs), pairs)
    assert list(result["tar_at_far"]) == fars
    assert all(count >= 1 for count in result["false_accepts"].values())


def test_one_fold_names_its_rule() -> None:
    pairs = made_up(1, 2)
    turned = np.deg2rad([0, 10, 0, 50, 0, 30, 0, 90])  # cosines of 10, 50 (same), 30, 90 (different) degrees
    embeddings = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    result = summarize(pair_scores(embeddings, pairs), pairs)
    assert result["accuracy"] == 0.75
    assert result["accuracy_std"] is None
    assert result["accuracy_rule"] == "best threshold on these pairs"
    assert np.cos(np.deg2rad(30)) < result["threshold"] < np.cos(np.deg2rad(10))


def test_scores_are_cosines_whatever_the_lengths() -> None:
    pairs = made_up(2, 3)
    embeddings = np.random.default_rng(0).normal(size=(len(pairs.names), 5)).astype(np.float32)
    scores = pair_scores(embeddings, pairs)
    for number, score in enumerate(scores):
        a, b = embeddings[2 * number].astype(float), embeddings[2 * number + 1].astype(float)
        assert score == pytest.approx(float(a @ b) / float(np.sqrt((a @ a) * (b @ b))), abs=1e-12)
    assert np.allclose(pair_scores(embeddings * 7, pairs), scores, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_broken_embeddings(value: float) -> None:
    pairs = made_up(2, 3)
    embeddings = np.ones((len(pairs.names), 5), np.float32)
    embeddings[4] = value
    with pytest.raises(UserError, match=r"1 of 24 embeddings are zero or not finite, the first that of image 4"):
        pair_scores(embeddings, pairs)


def encoded(height: int, width: int) -> bytes:
    ramp = np.broadcast_to(np.linspace(0, 255, width)[None, :, None], (height, width, 3)).astype(np.uint8)
    return cv2.imencode(".png", ramp)[1].tobytes()


def test_bin_images_are_resized_by_the_published_rule(tmp_path: Path) -> None:
    write_bin(tmp_path / "a.bin", [encoded(112, 112), encoded(224, 224), encoded(56, 56), encoded(250, 250)], [1, 0])
    pairs = load_protocol("bin", {"path": tmp_path / "a.bin"})
    embedder = ColourEmbedder()
    evaluate_pairs(embedder, pairs)
    assert [image.shape for image in embedder.seen] == [(112, 112, 3)] * 4
    assert (embedder.seen[0] == cv2.imdecode(np.frombuffer(encoded(112, 112), np.uint8), 1)).all()
    for image in embedder.seen[1:]:
        assert np.abs(image.astype(int) - embedder.seen[0]).max() <= 4


@pytest.mark.parametrize(("height", "width"), [(112, 96), (224, 112), (1, 200_000), (200_000, 1)])
def test_bin_images_of_another_shape_are_refused(tmp_path: Path, height: int, width: int) -> None:
    """A strip of 1 x 200,000 pixels, its short side made 112, would be a picture of 7 GB."""
    write_bin(tmp_path / "a.bin", [encoded(112, 112), encoded(height, width)], [1])
    pairs = load_protocol("bin", {"path": tmp_path / "a.bin"})
    with pytest.raises(UserError, match=rf"image 1: got {height}x{width}x3 uint8"):
        evaluate_pairs(ColourEmbedder(), pairs)


def test_folder_images_are_not_resized(folder: Path) -> None:
    with pytest.raises(UserError, match=r"Ann_0001.png: got 112x112x3 uint8, the network takes 96x96x3"):
        evaluate(ColourEmbedder((96, 96)), "pairs", {"images": folder, "pairs": folder / "pairs.txt"})


def test_synthetic_takes_texts() -> None:
    options = {"num_identities": "20", "num_pairs": "40", "difficulty": "0.2", "size": "64x48", "first_identity": 1000}
    pairs = load_protocol("synthetic", options)
    assert pairs.read(0).shape == (64, 48, 3)
    assert len(pairs.same) == 40


@pytest.mark.parametrize("folds", ["2", "2,2", [2], 2, (2,)])
def test_folds_as_text_number_or_list(folder: Path, folds: Any) -> None:
    pairs = load_protocol("pairs", {"images": folder, "pairs": folder / "pairs.txt", "folds": folds})
    assert pairs.fold.tolist() == [2] * 4


@pytest.mark.parametrize(
    ("protocol", "options", "message"),
    [
        ("pair", {}, r"unknown protocol 'pair' \(nearest: 'pairs'\); allowed: pairs, bin, synthetic"),
        ("pairs", {"images": "x"}, r"'pairs' needs the option pairs=…; its options: images, pairs, folds"),
        ("bin", {"file": "x", "path": "x"}, r"unknown option of bin 'file'.*; allowed: path, folds"),
        ("bin", {"path": "absent.bin"}, "absent.bin: no such file"),
        ("bin", {"path": "x", "folds": "1,a"}, "option folds.1 of bin: .*, got 'a'"),
        ("synthetic", {"num_pairs": "many"}, "option num_pairs of synthetic: .*, got 'many'"),
        ("synthetic", {"size": "112"}, "option size"),
        ("synthetic", {"num_identities": 2.5}, "option num_identities"),
    ],
)
def test_options_refused(protocol: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_protocol(protocol, options)


def test_options_are_the_arguments() -> None:
    assert protocol_options("pairs") == ["images", "pairs", "folds", "layout"]
    with pytest.raises(UserError, match="unknown protocol"):
        protocol_options("lfw")
