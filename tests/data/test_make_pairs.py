"""Pairs of a labelled set, and the files they are kept in, read back by the evaluation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from faceprint.data.folder import image_folder
from faceprint.data.make_pairs import choose_candidates, pair_writer, random_pairs
from faceprint.data.synthetic import SyntheticFaces
from faceprint.errors import UserError
from faceprint.evaluation.pairs import bin_pairs, file_pairs


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """25 people; person n has 4 + n % 4 images, whose pixels say which they are."""
    for n in range(25):
        folder = tmp_path / "people" / f"person {n:02d}"
        folder.mkdir(parents=True)
        for k in range(4 + n % 4):
            cv2.imwrite(str(folder / f"{folder.name}_{k + 1:04d}.png"), np.full((4, 4, 3), (0, k, n), np.uint8))
    return tmp_path / "people"


def who(pair_set, number: int) -> tuple[int, int]:
    pixel = pair_set.read(number)[0, 0]
    return int(pixel[0]), int(pixel[1])


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.txt", "pairs.bin"])
def test_written_pairs_are_read_back(people: Path, tmp_path: Path, name: str) -> None:
    source = image_folder(people)
    drawn = random_pairs(source, 100, folds=10, seed=3)
    pair_writer(tmp_path / name, source)(drawn)
    read = bin_pairs(tmp_path / name) if name.endswith("bin") else file_pairs(people, tmp_path / name)
    assert read.same.tolist() == drawn.same.tolist()
    assert read.fold.tolist() == drawn.fold.tolist()
    for (a, b), first, second in zip(drawn.images.tolist(), read.first.tolist(), read.second.tolist(), strict=True):
        shown = [tuple(source[index][0][0, 0, :2].tolist()) for index in (a, b)]
        assert {who(read, first), who(read, second)} == set(shown)
    persons = np.array([[who(read, n)[0] for n in side.tolist()] for side in (read.first, read.second)])
    assert ((persons[0] == persons[1]) == read.same).all()
    folds = [set(persons[:, read.fold == fold].ravel().tolist()) for fold in range(1, 11)]
    assert sum(map(len, folds)) == len(set.union(*folds))


def test_the_seed_decides(people: Path) -> None:
    source = image_folder(people)
    one, again, other = (random_pairs(source, 80, seed=seed) for seed in (1, 1, 2))
    assert (one.images == again.images).all()
    assert (one.images != other.images).any()


def test_few_images_of_each_take_part(people: Path) -> None:
    source = image_folder(people)
    random = np.random.default_rng(0)
    chosen = choose_candidates(source, random, 5)
    assert chosen.counts.tolist() == [min(5, 4 + n % 4) for n in range(25)]
    assert source.labels[chosen.images].tolist() == np.repeat(np.arange(25), chosen.counts).tolist()
    assert len(set(chosen.images.tolist())) == len(chosen.images)
    assert sorted(chosen.order.tolist()) == list(range(25))


def test_lfw_needs_its_names(tmp_path: Path) -> None:
    for n in range(4):
        for k in range(2):
            path = tmp_path / f"p{n}" / f"image{k}.png"
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))
    source = image_folder(tmp_path)
    drawn = random_pairs(source, 4, folds=2)
    with pytest.raises(UserError, match="names images NAME/NAME_0001, not p"):
        pair_writer(tmp_path / "pairs.txt", source)(drawn)
    assert not (tmp_path / "pairs.txt").exists()


def test_what_a_layout_cannot_say_is_refused(people: Path, tmp_path: Path) -> None:
    source = image_folder(people)
    with pytest.raises(UserError, match="folds of one size; 30 pairs make 10 unequal ones: choose a multiple of 20"):
        pair_writer(tmp_path / "pairs.txt", source)(random_pairs(source, 30))
    with pytest.raises(UserError, match=r"a \.bin has 10 folds, the pairs have 5"):
        pair_writer(tmp_path / "pairs.bin", source)(random_pairs(source, 20, folds=5))
    with pytest.raises(UserError, match=r"written as \.csv, \.txt .* or \.bin"):
        pair_writer(tmp_path / "pairs.json", source)
    with pytest.raises(UserError, match=r"this set has none; write a \.bin"):
        pair_writer(tmp_path / "pairs.csv", SyntheticFaces(3, 3))


def test_mistakes_in_numbers(people: Path) -> None:
    source = image_folder(people)
    with pytest.raises(UserError, match="at least 2 pairs and 1 fold"):
        random_pairs(source, 1)
    with pytest.raises(UserError, match="max_images 0"):
        random_pairs(source, 20, max_images=0)
    with pytest.raises(UserError, match="at least 2 identities, the set has 1"):
        random_pairs(SyntheticFaces(1, 4), 4)
    with pytest.raises(UserError, match=r"a fold has only .* pairs of one person"):
        random_pairs(source, 6000)
