"""People behind names, the hardest pairs, degradations, and a doctor who is given what ails the patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceprint.data.images import Image, ImageError
from faceprint.data.pixels import InputSpec
from faceprint.data.synthetic import SyntheticFaces
from faceprint.errors import UserError
from faceprint.evaluation.doctor import diagnose, overrides, separation, separations, some_of
from faceprint.evaluation.embeddings import ImageSet
from faceprint.evaluation.hardest import hardest, hardest_sheet, write_hardest
from faceprint.evaluation.pairs import PairSet, synthetic_pairs
from faceprint.evaluation.people import people_of
from faceprint.evaluation.robustness import (
    SWEEPS,
    augmentation_of,
    degraded,
    degraded_images,
    rates,
    supported_far,
)
from faceprint.evaluation.sources import ModelSource
from faceprint.inference.embedder import Embedder


def made_up(names: list[str], same: list[tuple[int, int]], different: list[tuple[int, int]]) -> PairSet:
    pairs = np.array([*same, *different]).reshape(-1, 2)
    return PairSet(
        protocol="pairs",
        names=names,
        read=lambda i: np.full((112, 112, 3), 10 * i, np.uint8),
        first=pairs[:, 0],
        second=pairs[:, 1],
        same=np.arange(len(pairs)) < len(same),
        fold=np.ones(len(pairs), np.int64),
    )


def test_people_by_folder_by_name_and_by_pairs() -> None:
    folders = made_up(["Ann/1", "Ann/2", "Bo/1", "Bo/2"], [(0, 1)], [(1, 2)])
    assert people_of(folders).number.tolist() == [0, 0, 1, 1]
    assert "folder" in people_of(folders).rule
    flat = made_up(["x/Ann_1.jpg", "x/Ann_2.jpg", "x/Bo_1.jpg", "x/Bo_2.jpg"], [(0, 1)], [(1, 2)])
    assert people_of(flat).number.tolist() == [0, 0, 1, 1]
    assert "NAME_0001" in people_of(flat).rule
    unnamed = made_up(["a: image 0", "a: image 1", "a: image 2", "a: image 3"], [(0, 3)], [(0, 1), (1, 2)])
    assert people_of(unnamed).number.tolist() == [0, 1, 2, 0]
    assert people_of(unnamed).rule == "images joined by same pairs"


def test_same_pairs_join_in_chains() -> None:
    pairs = made_up([str(i) for i in range(6)], [(4, 5), (0, 2), (2, 4)], [(0, 1)])
    assert people_of(pairs).number.tolist() == [0, 1, 0, 2, 0, 0]


def test_generated_people_are_told_by_their_folders() -> None:
    pairs = synthetic_pairs(5, 4, 30)
    people = people_of(pairs)
    assert people.count == 5
    assert ((people.number[pairs.first] == people.number[pairs.second]) == pairs.same).all()


def test_hardest_of_each_kind() -> None:
    different, same = hardest([0.1, 0.9, 0.5, 0.9, 0.3, 0.2], [0, 0, 0, 0, 1, 1], 2)
    assert (different.tolist(), same.tolist()) == ([1, 3], [5, 4])
    with pytest.raises(UserError, match="1 or more"):
        hardest([0.1], [1], 0)


def test_the_sheet_shows_these_images(tmp_path: Path) -> None:
    pairs = made_up([f"p/{i}.jpg" for i in range(8)], [(0, 1), (2, 3)], [(4, 5), (6, 7)])
    sheet = hardest_sheet(pairs, np.array([0.5, 0.2, 0.1, 0.8]), 1)
    values = set(np.unique(sheet).tolist())
    assert {60, 70, 20, 30} <= values  # images 6, 7 (different, 0.8) and 2, 3 (same, 0.2)
    assert (sheet == 60).sum() > 30_000
    assert (sheet == 50).sum() < 500  # image 5 is in no pair shown
    write_hardest(tmp_path / "hard.png", pairs, np.array([0.5, 0.2, 0.1, 0.8]), 1)
    assert (cv2.imread(str(tmp_path / "hard.png"))[..., ::-1] == sheet).all()


def test_a_hard_pair_whose_image_cannot_be_read() -> None:
    def read(number: int) -> Image:
        if number == 2:
            raise ImageError("2: not an image")
        return np.full((112, 112, 3), 10 * number, np.uint8)

    pairs = replace(made_up([f"p/{i}.jpg" for i in range(8)], [(0, 1), (2, 3)], [(4, 5), (6, 7)]), read=read)
    sheet = hardest_sheet(pairs, np.array([0.5, -1, 0.1, 0.8]), 1)
    assert (sheet == 30).sum() > 30_000
    assert (sheet == 160).all(axis=2).sum() >= 112 * 112


@pytest.mark.parametrize("kind", list(SWEEPS))
def test_stronger_is_farther_from_the_image(kind: str) -> None:
    faces = SyntheticFaces(3, 2)
    images = [faces[i][0] for i in range(6)]
    away = []
    for strength in SWEEPS[kind].strengths:
        made = [degraded(image, augmentation_of(kind, strength), 1, number) for number, image in enumerate(images)]
        assert [image.dtype for image in made] == [np.uint8] * 6
        again = degraded(images[5], augmentation_of(kind, strength), 1, 5)  # whatever was degraded before
        assert (made[5] == again).all()
        away.append(np.abs(np.stack(made).astype(float) - np.stack(images)).mean())
    assert away[0] > 0.3
    assert away == sorted(away)


def test_what_degraded_images_are_known_by() -> None:
    """A changed kind, strength, seed or set is another; images degraded again are the same."""
    images = synthetic_pairs(3, 2, 6, size=(32, 32)).images
    spec = InputSpec(size=(32, 32))

    def known(kind: str = "blur", strength: float = 2, seed: int = 0, of: ImageSet = images) -> str:
        fingerprint = degraded_images(of, spec, kind, strength, seed).fingerprint
        assert fingerprint is not None
        return fingerprint()

    other = synthetic_pairs(3, 2, 6, size=(32, 32), seed=1).images
    all_different = [known(), known(strength=3), known(seed=1), known("mask", 1), known(of=other)]
    assert len(set(all_different)) == 5
    assert known() == all_different[0]
    assert degraded_images(replace(images, fingerprint=None), spec, "blur", 2).fingerprint is None
    read = degraded_images(images, spec, "blur", 2).read(1)
    assert (read == degraded(images.read(1), augmentation_of("blur", 2), 0, 1)).all()


def test_rates_keep_the_old_threshold() -> None:
    scores, same = np.array([0.9, 0.4, 0.6, 0.1, 0.0]), np.array([True, True, False, False, False])
    found = rates(scores, same, far=0.34, threshold=0.5)
    assert (found["tar"], found["fnmr"], found["fmr"]) == (1.0, 0.5, pytest.approx(1 / 3))
    with pytest.raises(UserError, match="at least 1,000"):
        supported_far(999, 1e-3)


def test_separation_by_hand() -> None:
    scores, same = np.array([0.8, 0.6, 0.1, 0.3]), np.array([True, True, False, False])
    assert separation(scores, same) == pytest.approx(0.5 / 0.1)
    weighted = separations(scores, same, np.array([[2, 1, 1, 1], [0, 0, 1, 1]]))
    assert weighted[0] == pytest.approx(separation(scores[[0, 0, 1, 2, 3]], same[[0, 0, 1, 2, 3]]))
    assert np.isnan(weighted[1])
    assert separation(np.ones(4), same) == 0


def patient(wants: InputSpec, given: InputSpec) -> Embedder:
    """A network that knows people by red, mostly, if it is fed as `wants`, and is blinded by another scale."""

    def features(batch: np.ndarray) -> np.ndarray:
        pixels = batch * wants.std + wants.mean
        low, high = pixels.min((1, 2, 3)), pixels.max((1, 2, 3))
        blind = (low < -5) | (low > 70) | (high < 185) | (high > 260)
        seen = pixels[:, :, 4::8, 4::8] - 120
        seen = seen * np.array([1.0, 0.6, 0.05])[None, :, None, None]
        seen[blind] = noise.normal(size=seen.shape)[blind]
        return seen.reshape(len(batch), -1).astype(np.float32)

    noise = np.random.default_rng(0)
    return Embedder(features=features, input=given, embedding_dim=588, name="patient")


def fold_by_colour() -> PairSet:
    """People are shades of red and green, blue is noise in every image: 40 same and 40 different pairs."""
    rng = np.random.default_rng(0)
    shades = rng.integers(40, 216, (40, 1, 1, 3))[np.repeat(np.arange(40), 2)]
    shades[..., 2] = rng.integers(40, 216, (80, 1, 1))
    images = np.clip(shades + rng.normal(0, [6, 12, 60], (80, 112, 112, 3)), 0, 255)
    pairs = made_up(
        [f"{i // 2}/{i}" for i in range(80)],
        [(2 * i, 2 * i + 1) for i in range(40)],
        [(2 * i, (2 * i + 2) % 80) for i in range(40)],
    )
    return replace(pairs, read=lambda i: images[i].astype(np.uint8))


@pytest.mark.parametrize(("mean", "std"), [(127.5, 127.5), (0.0, 255.0), (0.0, 1.0)])
def test_the_doctor_finds_the_scale(mean: float, std: float) -> None:
    wants = InputSpec(mean=mean, std=std)
    given = InputSpec(mean=0.0, std=1.0) if std != 1 else InputSpec()
    result = diagnose(ModelSource(patient(wants, given)), fold_by_colour())
    assert (result["best"]["mean"], result["best"]["std"]) == (mean, std)
    assert result["findings"][0]["question"] == "scale"
    assert result["findings"][0]["significant"]
    assert f"input.std={std:g}" in overrides(result["best"], given)
    assert result["told_apart"]


def test_the_doctor_finds_the_colour_order() -> None:
    """The last channel is the noisy one; fed in the other order the network takes it for the first."""
    given = InputSpec(colour="bgr")
    result = diagnose(ModelSource(patient(InputSpec(), given)), fold_by_colour())
    assert overrides(result["best"], given) == ["input.colour=rgb"]


def test_a_healthy_patient_keeps_what_it_has() -> None:
    result = diagnose(ModelSource(patient(InputSpec(), InputSpec())), fold_by_colour())
    assert result["best"]["name"] == result["as_configured"]["name"]
    assert overrides(result["best"], InputSpec()) == []
    assert [finding["question"] for finding in result["findings"]] == ["scale", "colour", "crop", "flip"]


def test_a_blind_patient_is_called_so() -> None:
    noise = np.random.default_rng(0)
    made: Callable[[np.ndarray], np.ndarray] = lambda batch: noise.normal(size=(len(batch), 16)).astype(np.float32)  # noqa: E731
    blind = Embedder(features=made, input=InputSpec(), embedding_dim=16, name="blind")
    assert not diagnose(ModelSource(blind), fold_by_colour())["told_apart"]
    dead = replace(blind, features=lambda batch: np.zeros((len(batch), 16), np.float32))
    with pytest.raises(UserError, match="zero or not finite in every way"):
        diagnose(ModelSource(dead), fold_by_colour())


def test_some_pairs_of_a_set() -> None:
    pairs = synthetic_pairs(20, 4, 100)
    few = some_of(pairs, 10)
    assert (few.same.sum(), (~few.same).sum()) == (10, 10)
    assert len(few.names) == len({*few.first.tolist(), *few.second.tolist()})
    people = people_of(few).number
    assert ((people[few.first] == people[few.second]) == few.same).all()
    assert (few.read(3) == pairs.read(list(pairs.names).index(few.names[3]))).all()
    with pytest.raises(UserError, match="10 of each"):
        diagnose(ModelSource(patient(InputSpec(), InputSpec())), some_of(pairs, 5))
