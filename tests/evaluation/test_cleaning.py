"""Outliers, look-alikes, overlap and hard pairs, with an embedder whose answers are known."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from faceprint.data.images import Image, ImageError
from faceprint.data.make_pairs import random_pairs
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.evaluation.cleaning import clean_source, stranger_limit, write_cleaning
from faceprint.evaluation.hard_pairs import hard_pairs
from faceprint.evaluation.overlap import find_overlap, write_overlap
from faceprint.evaluation.pairs import PairSet
from faceprint.evaluation.source_embeddings import embed_source, robust_centre, unseen_cosines
from faceprint.inference.neighbours import nearest

DIM = 64
SPEC = InputSpec(size=(4, 4))


@dataclass(frozen=True)
class Numbered:
    """A set whose image i is a 4x4 image that says i, so that an embedder can look it up."""

    labels: np.ndarray
    class_names: Sequence[str]
    first: int = 0
    broken: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        if index in self.broken:
            raise ImageError(f"{index}: broken")
        number = index + self.first
        image = np.zeros((4, 4, 3), np.uint8)
        image[0, 0] = number & 255, number >> 8, 0
        return image, int(self.labels[index])

    def encoded(self, index: int) -> bytes:
        return b""

    def name(self, index: int) -> str:
        return f"image-{index}"


@dataclass(frozen=True)
class LookUp:
    """Embeds the image that says i as row i of a table."""

    table: np.ndarray
    name: str = "look-up"
    input: InputSpec = SPEC

    def embed(
        self,
        images: Iterable[Image],
        *,
        flip: bool = False,
        batch_size: int = 64,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        numbers = [int(image[0, 0, 0]) + 256 * int(image[0, 0, 1]) for image in images]
        return self.table[numbers].astype(np.float32).reshape(len(numbers), self.table.shape[1])


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def people(count: int, images: int, *, noise: float = 0.5, seed: int = 0) -> tuple[Numbered, np.ndarray]:
    """`count` identities around random directions; cosine to the direction about 1 / sqrt(1 + noise²)."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), images)
    centres = unit(random.normal(size=(count, DIM)))
    spread = random.normal(size=(len(labels), DIM)) * noise / np.sqrt(DIM)
    return Numbered(labels, [f"person{n}" for n in range(count)]), unit(centres[labels] + spread)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_wrong_images_are_found(tmp_path: Path) -> None:
    """Four images of person 3 stand under person 7, two of nobody else under person 12; 600 others are right."""
    source, table = people(60, 10)
    table[70:74] = people(60, 10, seed=0)[1][30:34]
    table[125:127] = unit(np.random.default_rng(9).normal(size=(2, DIM)))
    found = clean_source(LookUp(table), source)
    assert set(found.outliers.tolist()) == {70, 71, 72, 73, 125, 126}
    assert [int(label) for row, label in zip(found.outliers, found.other, strict=True) if 70 <= row < 74] == [3] * 4
    write_cleaning(found, tmp_path)
    assert {row["path"] for row in rows(tmp_path / "exclude.csv")} == {f"image-{n}" for n in (70, 71, 72, 73, 125, 126)}
    listed = rows(tmp_path / "outliers.csv")
    assert [float(row["cosine"]) for row in listed] == sorted(float(row["cosine"]) for row in listed)
    moved = next(row for row in listed if row["path"] == "image-70")
    assert (moved["class"], moved["nearest_class"]) == ("person7", "person3")
    assert float(moved["nearest_cosine"]) > 0.7


def test_one_person_under_two_names_is_found(tmp_path: Path) -> None:
    source, table = people(40, 12)
    labels = source.labels.copy()
    labels[5 * 12 + 6 : 6 * 12] = 40  # half of person 5
    split = Numbered(labels, [*source.class_names, "again"])
    found = clean_source(LookUp(table), split)
    assert found.alike.tolist() == [[5, 40]]
    write_cleaning(found, tmp_path)
    row = rows(tmp_path / "alike.csv")[0]
    assert (row["identity_a"], row["images_a"], row["identity_b"], row["images_b"]) == ("person5", "6", "again", "6")


def test_limits_can_be_given() -> None:
    source, table = people(20, 6)
    found = clean_source(LookUp(table), source, outlier_limit=1.0, alike_limit=-1.0)
    assert len(found.outliers) == 120
    assert len(found.alike) >= 20 * 5 / 2  # the five nearest of each, each pair once
    assert (np.diff(found.alike_cosine) <= 0).all()


def test_what_cannot_be_read_is_counted_and_listed(tmp_path: Path) -> None:
    source, table = people(20, 6)
    broken = Numbered(source.labels, source.class_names, broken=frozenset({0, 17}))
    found = clean_source(LookUp(table), broken)
    assert found.as_dict()["unreadable"] == 2
    assert found.as_dict()["images"] == 118
    write_cleaning(found, tmp_path)
    assert [row["path"] for row in rows(tmp_path / "exclude.csv")] == ["image-0", "image-17"]


def test_a_result_names_nobody() -> None:
    source, table = people(20, 6)
    result = clean_source(LookUp(table), source).as_dict()
    assert all(isinstance(value, (int, float)) for value in result.values())


def test_a_set_of_which_nothing_can_be_read() -> None:
    source, table = people(2, 2)
    with pytest.raises(UserError, match="none of 4 images can be read"):
        clean_source(LookUp(table), Numbered(source.labels, source.class_names, broken=frozenset(range(4))))


def test_the_centre_stays_with_the_many() -> None:
    """Of 9 images 4 are of somebody else: the centre is that of the five."""
    random = np.random.default_rng(2)
    ours, theirs = unit(random.normal(size=(2, DIM)))
    vectors = unit(np.stack([ours] * 5 + [theirs] * 4) + 0.02 * random.normal(size=(9, DIM))).astype(np.float32)
    assert robust_centre(vectors) @ ours > 0.99
    assert robust_centre(vectors[:1]) == pytest.approx(vectors[0], abs=1e-6)
    assert robust_centre(vectors[4:6]) == pytest.approx(unit(vectors[4] + vectors[5]), abs=1e-6)


def test_unseen_cosines_leave_an_image_out() -> None:
    source, table = people(4, 3)
    labels = np.append(source.labels, 4)
    lone = Numbered(labels, [*source.class_names, "alone"])
    embedded = embed_source(LookUp(np.concatenate([table, table[:1]])), lone)
    expected = [
        table[i] @ unit(np.mean([table[j] for j in range(12) if j != i and labels[j] == labels[i]], axis=0))
        for i in range(12)
    ]
    assert unseen_cosines(embedded) == pytest.approx(expected, abs=1e-5)


def test_the_limit_is_what_strangers_reach() -> None:
    source, table = people(100, 5)
    centres = unit(table.reshape(100, 5, DIM).mean(axis=1))
    cosine = table @ centres.T
    strangers = cosine[source.labels[:, None] != np.arange(100)]
    limit = stranger_limit(table.astype(np.float32), centres.astype(np.float32), source.labels, 0.01)
    assert limit == pytest.approx(np.quantile(strangers, 0.99), abs=0.01)


def test_neighbours_are_those_of_a_whole_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faceprint.inference.neighbours._QUERIES", 7)
    monkeypatch.setattr("faceprint.inference.neighbours._GALLERY", 11)
    random = np.random.default_rng(1)
    a, b = (unit(random.normal(size=(n, 8))).astype(np.float32) for n in (30, 50))
    classes = random.integers(0, 5, 30), random.integers(0, 5, 50)
    whole = a @ b.T
    found = nearest(a, b, 4, device="cpu")
    assert found.row.tolist() == np.argsort(-whole, axis=1)[:, :4].tolist()
    assert found.cosine == pytest.approx(-np.sort(-whole, axis=1)[:, :4], abs=1e-6)
    whole[classes[0][:, None] == classes[1][None]] = -9
    found = nearest(a, b, 4, query_class=classes[0], gallery_class=classes[1], device="cpu")
    assert found.row.tolist() == np.argsort(-whole, axis=1)[:, :4].tolist()


def test_too_few_neighbours_are_marked() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(3, 4))).astype(np.float32)
    found = nearest(vectors, vectors, 3, query_class=np.array([0, 0, 1]), gallery_class=np.array([0, 0, 1]))
    assert found.row.tolist() == [[2, -1, -1], [2, -1, -1], [*found.row[2, :2].tolist(), -1]]
    assert (found.cosine[found.row < 0] < -1).all()


@pytest.mark.parametrize("by", ["centres", "images"])
def test_people_in_the_test_set_are_found(tmp_path: Path, by: str) -> None:
    """Images 0 and 1 of the test set are of persons 4 and 9 of 30, the other six of strangers."""
    source, table = people(30, 8)
    tests = np.concatenate([people(30, 8, noise=0.3)[1][[32, 72]], people(6, 1, seed=5)[1]])
    first = len(table)
    images = Numbered(np.arange(8), [f"t{n}" for n in range(8)], first=first)
    pairs = PairSet(
        protocol="pairs",
        names=[f"test-{n}" for n in range(8)],
        read=lambda i: images[i][0],
        first=np.arange(4),
        second=np.arange(4, 8),
        same=np.zeros(4, np.bool_),
        fold=np.ones(4, np.int64),
    )
    embedder = LookUp(np.concatenate([table, tests]))
    for test, name in ((images, "image-0"), (pairs, "test-0")):
        found = find_overlap(embedder, source, test, by=by, limit=0.6)
        assert sorted(zip(found.image.tolist(), found.label.tolist(), strict=True)) == [(0, 4), (1, 9)]
        write_overlap(found, tmp_path)
        assert [row["identity"] for row in rows(tmp_path / "exclude.csv")] == ["person4", "person9"]
        assert {row["test"]: row["class"] for row in rows(tmp_path / "overlap.csv")}[name] == "person4"
        assert found.as_dict()["identities_that_overlap"] == 2


def test_an_unknown_way_to_compare() -> None:
    source, table = people(3, 3)
    with pytest.raises(UserError, match="unknown way to compare 'centre'"):
        find_overlap(LookUp(table), source, source, by="centre")


def test_hard_pairs_are_the_hardest_of_their_fold() -> None:
    """Against all pairs of each fold, sorted."""
    source, table = people(24, 5, noise=1.0)
    pairs = hard_pairs(LookUp(table), source, 60, folds=3, seed=4, device="cpu")
    assert (source.labels[pairs.images[:, 0]] == source.labels[pairs.images[:, 1]]).tolist() == pairs.same.tolist()
    cosine = table @ table.T
    seen: set[int] = set()
    for fold in (1, 2, 3):
        own = pairs.fold == fold
        person = set(source.labels[pairs.images[own]].ravel().tolist())
        assert not person & seen
        seen |= person
        chosen = pairs.images[own & pairs.same].tolist()
        hardest = sorted(cosine[a, b] for a, b in _same(source.labels, _fold_people(pairs, source, fold)))[:10]
        assert sorted(cosine[a, b] for a, b in chosen) == pytest.approx(hardest, abs=1e-6)
        assert int((own & ~pairs.same).sum()) == 10
    easy = random_pairs(source, 60, folds=3, seed=4)
    score = lambda drawn, same: cosine[tuple(drawn.images[drawn.same == same].T)].mean()  # noqa: E731
    assert score(pairs, True) < score(easy, True) - 0.1
    assert score(pairs, False) > score(easy, False) + 0.1


def _fold_people(pairs, source: Numbered, fold: int) -> set[int]:
    """The eight people of a fold: the same seed cuts them alike for random pairs, all of which together show them."""
    every = random_pairs(source, 3 * 2 * 80, folds=3, seed=4)
    assert set(np.unique(every.fold).tolist()) == {1, 2, 3}
    return set(source.labels[every.images[every.fold == fold]].ravel().tolist())


def _same(labels: np.ndarray, people: set[int]) -> list[tuple[int, int]]:
    own = [i for i in range(len(labels)) if labels[i] in people]
    return [(a, b) for a in own for b in own if a < b and labels[a] == labels[b]]


def test_hard_pairs_are_refused_where_there_are_too_few() -> None:
    source, table = people(4, 2)
    with pytest.raises(UserError, match="a fold has only 2 pairs of one person"):
        hard_pairs(LookUp(table), source, 20, folds=2, device="cpu")
