"""MegaFace by plain loops, and by hand: ranks, ties, both verification modes, noises, lists and feature files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceprint.errors import UserError
from faceprint.evaluation import products as module
from faceprint.evaluation.embedding_set import EmbeddingSet
from faceprint.evaluation.feature_files import MissingFeaturesError, read_matrix, write_matrix
from faceprint.evaluation.megaface import DevkitFeatures, load_megaface
from faceprint.evaluation.megaface_counts import count_above, count_megaface, devkit_curves
from faceprint.evaluation.megaface_lists import match_noises
from faceprint.evaluation.products import unit_rows
from faceprint.evaluation.sources import FeatureSource


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._TILE, "cpu", (16, 64))


def distance_scores(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return -((a.astype(np.float64)[:, None] - b.astype(np.float64)[None]) ** 2).sum(-1)


def plain(probes: np.ndarray, ids: np.ndarray, distractors: np.ndarray, far: float) -> dict[str, Any]:
    """The definition, a loop a pair."""
    with_mates, with_distractors = distance_scores(probes, probes), distance_scores(probes, distractors)
    ranks, genuine = [], []
    for i in range(len(ids)):
        for j in range(len(ids)):
            if i != j and ids[i] == ids[j]:
                ranks.append(int((with_distractors[i] > with_mates[i, j] + 1e-12).sum()))
                if i < j:
                    genuine.append(with_mates[i, j])
    modes = {}
    for mode, rows in (("devkit", with_distractors[:100]), ("full", with_distractors)):
        falling = np.sort(rows.ravel())[::-1]
        threshold = falling[int(np.floor(far * falling.size + 1e-9))]
        modes[mode] = (
            np.mean(np.array(genuine) > threshold + 1e-12),
            (falling > threshold + 1e-12).sum(),
            falling.size,
        )
    return {"ranks": ranks, **modes}


def people(count: int, images: int, noise: float, seed: int, dim: int = 12) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    ids = np.repeat(np.arange(count), images)
    return random.normal(size=(count, dim))[ids] + noise * random.normal(size=(count * images, dim)), ids


@pytest.mark.parametrize("noise", [0.1, 0.6, 5.0])
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("far", [0.0, 1e-3, 0.05])
def test_counts_are_those_of_the_definition(noise: float, normalised: bool, far: float) -> None:
    vectors, ids = people(9, 14, noise, 0)
    probes = unit_rows(vectors, range(len(ids))) if normalised else vectors.astype(np.float32)
    others = np.random.default_rng(1).normal(size=(300, 12)).astype(np.float32)
    distractors = unit_rows(others, range(300)) if normalised else others
    found = count_megaface(probes, ids, distractors, far=far, normalised=normalised, device="cpu")
    expected = plain(probes, ids, distractors, far)
    assert sorted(found.ranks.tolist()) == sorted(expected["ranks"])
    assert found.num_genuine == 9 * 14 * 13 // 2
    assert len(found.ranks) == 9 * 14 * 13
    for mode in ("devkit", "full"):
        curve = getattr(found, mode)
        assert (curve.tpr, curve.false_accepts, curve.impostors) == pytest.approx(expected[mode])
    assert (found.devkit.impostors, found.full.impostors) == (100 * 300, 126 * 300)


def test_by_hand_with_ties() -> None:
    """Angles on the circle. Ann: 0, 10; Bo: 90, 120. Distractors at 10 (a tie with Ann's mate), 100, 85."""
    turn = np.deg2rad
    circle = lambda angles: np.stack([np.cos(turn(angles)), np.sin(turn(angles))], 1).astype(np.float32)  # noqa: E731
    found = count_megaface(
        circle([0, 10, 90, 120]), np.array([0, 0, 1, 1]), circle([10, 100, 85]), far=3 / 12, device="cpu"
    )
    # 0: its mate is 10 degrees away, and so is a distractor: the tie favours the mate. 10: the distractor is 0 away.
    # 90: its mate is 30 degrees away, distractors 10 and 5. 120: mate 30, distractors 20 and 35.
    assert found.ranks.tolist() == [0, 1, 2, 1]
    assert found.rank_k(1) == 0.25
    assert found.rank_k(2) == 0.75
    # Impostor angles: 0, 5, 10, 10, 20 … K = 3 of 12: the fourth is 10, two are nearer; Ann's pair ties with it.
    assert (found.full.allowed, found.full.false_accepts, found.full.tpr) == (3, 2, 0.0)


def test_a_collapsed_network_ties_everywhere() -> None:
    probes, distractors = np.ones((40, 3), np.float32), np.ones((200, 3), np.float32)
    found = count_megaface(unit_rows(probes, range(40)), np.arange(40) // 2, unit_rows(distractors, range(200)))
    assert found.ranks.tolist() == [0] * 40  # the devkit's rule
    assert (found.full.tpr, found.full.false_accepts) == (0.0, 0)


def test_scores_that_float32_cannot_tell_apart() -> None:
    """The first distractor scores 1.4e-11 more than the mate, the second as much less; float32 resolves 6e-8."""
    rows = np.zeros((4, 64), np.float32)
    rows[:, :8] = 8**-0.5
    rows[:, 9] = np.float32(1e-4) * np.array([1, 1, 1 + 1.4e-3, 1 - 1.4e-3], np.float32)
    assert len(set((rows[0] @ rows[1:].T).tolist())) == 1
    found = count_megaface(rows[:2], np.zeros(2, int), rows[2:], device="cpu")
    assert found.ranks.tolist() == [1, 1]


def test_count_above_leaves_the_near_ones() -> None:
    counts, places, columns = count_above(
        np.array([0.1, 0.5, 0.9, 0.3], np.float32), np.array([0.0, 0.3, 0.6, 2.0]), 0.01
    )
    assert counts.tolist() == [4, 2, 1, 0]
    assert (places.tolist(), columns.tolist()) == ([1], [3])


def test_curves_in_the_layout_of_the_devkit() -> None:
    vectors, ids = people(9, 14, 1.0, 3)
    probes, others = unit_rows(vectors, range(len(ids))), np.random.default_rng(4).normal(size=(250, 12))
    distractors = unit_rows(others, range(250))
    found = count_megaface(probes, ids, distractors, device="cpu")
    curves = devkit_curves(found)
    expected = plain(probes, ids, distractors, 1e-3)
    ranks, recall = curves["cmc"]
    assert ranks[0] == 0
    assert recall[-1] == 1.0
    for rank, share in zip(ranks, recall, strict=True):
        assert share == pytest.approx(np.mean(np.array(expected["ranks"]) <= rank))
    steps = np.diff(recall)
    assert (steps[:-1] >= 0.01).all()
    impostors = distance_scores(probes[:100], distractors).ravel()
    genuine = np.array([distance_scores(probes[i : i + 1], probes[j : j + 1])[0, 0]
                        for i in range(len(ids)) for j in range(i + 1, len(ids)) if ids[i] == ids[j]])  # fmt: skip
    far, tpr = curves["roc"]
    for reached, share in list(zip(far, tpr, strict=True))[::9]:
        threshold = np.sort(genuine)[::-1][round(share * len(genuine)) - 1]
        assert reached == pytest.approx((impostors >= threshold - 1e-12).mean())
    assert tpr[-1] == 1.0


@pytest.mark.parametrize(
    ("name", "noise", "hit"),
    [
        ("Adam_Brody/Adam_Brody_277.png", "Adam_Brody_277.png", True),
        ("Adam Brody/Adam Brody_277.jpg", "Adam_Brody_277.png", True),
        ("Adam_Brody/adam_brody_277.png", "Adam Brody_277", True),
        ("Adam_Brody/Adam_Brody_27.png", "Adam_Brody_277.png", False),
        ("FlickrFinal2/7380/7380@N01/1_0.jpg", "7380/7380@N01/1_0.jpg", True),
        ("FlickrFinal2/738/17380@N01/1_0.jpg", "738/7380@N01/1_0.jpg", False),
        ("1_0.jpg", "7380/7380@N01/1_0.jpg", False),
    ],
)
def test_names_of_noises(name: str, noise: str, hit: bool) -> None:
    found = match_noises(["other/x.png", name], [noise, "nobody.png"])
    assert (found.lines, found.found, found.rows) == (2, int(hit), (1,) if hit else ())


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """Three people with four images, 30 distractors, two of each noise; in the devkit's layout."""
    vectors, ids = people(3, 4, 0.3, 0)
    paths = [f"P_{person}/P_{person}_{number}.png" for number, person in enumerate(ids)]
    (tmp_path / "facescrub_features_list.json").write_text(
        json.dumps({"path": paths, "id": [f"P_{person}" for person in ids]})
    )
    others = [f"{number % 3}/{number}@N00/{number}_0.jpg" for number in range(30)]
    distractors = np.random.default_rng(1).normal(size=(30, 12))
    distractors[7] = vectors[0]  # a noise: the image of a probe
    vectors[5] = -vectors[5]
    for size in (10, 30):
        (tmp_path / f"megaface_features_list.json_{size}_1").write_text(json.dumps({"path": others[:size]}))
    for folder, names, rows in (("facescrub", paths, vectors), ("megaface", others, distractors)):
        for name, row in zip(names, rows, strict=True):
            write_matrix(tmp_path / f"{folder}_features" / f"{name}_net.bin", row)
    np.savez(tmp_path / "all.npz", path=np.array(paths + others), embedding=np.vstack([vectors, distractors]))
    (tmp_path / "facescrub_noises.txt").write_text("# noises\nP_1_5.png\nNobody_1.png\n")
    (tmp_path / "megaface_noises.txt").write_text("3\t1/7@N00/7_0.jpg\n")
    return tmp_path


def options(folder: Path, **more: Any) -> dict[str, Any]:
    lists = [folder / f"megaface_features_list.json_{size}_1" for size in (10, 30)]
    return {"probes": folder / "facescrub_features_list.json", "distractors": lists, **more}


def unread(path: Path) -> np.ndarray:
    return read_matrix(path).ravel()


@pytest.mark.parametrize("cleaned", [True, False])
def test_a_folder_of_features_and_a_file_give_one_result(devkit: Path, cleaned: bool) -> None:
    noises = {"facescrub_noises": devkit / "facescrub_noises.txt", "megaface_noises": devkit / "megaface_noises.txt"}
    given = options(devkit, algorithm="net", output=devkit / "out", **(noises if cleaned else {}))
    by_folder = load_megaface(**given).score(DevkitFeatures(devkit), device="cpu")
    from faceprint.evaluation.feature_files import open_features

    by_file = load_megaface(**given).score(FeatureSource(open_features(devkit / "all.npz"), "x"), device="cpu")
    assert {**by_folder, "model": "x"} == by_file
    assert list(by_folder["sizes"]) == ["10", "30"]
    expected = {"lines": 2, "matched": 1, "images": 1} if cleaned else {"lines": 0, "matched": 0, "images": 0}
    assert by_folder["probe_noises"] == expected
    names = json.loads((devkit / "facescrub_features_list.json").read_text())
    vectors = np.array([unread(devkit / "facescrub_features" / f"{path}_net.bin") for path in names["path"]])
    ids = np.array(names["id"])
    others = json.loads((devkit / "megaface_features_list.json_30_1").read_text())["path"]
    distractors = np.array([unread(devkit / "megaface_features" / f"{path}_net.bin") for path in others])
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)  # noqa: E731
    vectors, distractors = unit(vectors), unit(distractors)
    if cleaned:
        vectors[5] = unit((vectors[4] + vectors[6] + vectors[7])[None])[0]
        distractors = np.delete(distractors, 7, 0)
    ranks = plain(vectors, ids, distractors, 0.0)["ranks"]
    assert by_folder["sizes"]["30"]["rank"]["1"] == np.mean(np.array(ranks) == 0)
    assert by_folder["sizes"]["30"]["num_searches"] == 3 * 4 * 3
    assert [(each["set"], each["kind"]) for each in by_folder["curves"]] == [
        (f", {size} distractors", kind) for size in (10, 30) for kind in ("cmc", "roc")
    ]
    cmc = by_folder["curves"][2]
    assert cmc["x"][-1] == 31
    assert all(y == np.mean(np.array(ranks) < x) for x, y in zip(cmc["x"], cmc["y"], strict=True))
    assert by_folder["sizes"]["30"]["verification"]["full"]["impostors"] == 12 * 30  # noises are rejected impostors
    assert json.loads((devkit / "out" / "cmc_facescrub_megaface_30.json").read_text())["cmc"][0][0] == 0


def test_noisy_probes_left_out(devkit: Path) -> None:
    given = options(devkit, algorithm="net", facescrub_noises=devkit / "facescrub_noises.txt", probe_noise="exclude")
    result = load_megaface(**given).score(DevkitFeatures(devkit), device="cpu")
    assert (result["num_probes"], result["sizes"]["10"]["num_searches"]) == (11, 12 + 12 + 6)


def test_features_are_written_as_they_are_read(devkit: Path) -> None:
    load_megaface(**options(devkit, algorithm="net", save_features=devkit / "copy")).score(DevkitFeatures(devkit))
    written = sorted((devkit / "copy").rglob("*.bin"))
    assert len(written) == 12 + 30
    for path in written:
        assert path.read_bytes() == (devkit / path.relative_to(devkit / "copy")).read_bytes()


def test_missing_features_are_listed(devkit: Path) -> None:
    for number in (3, 9):
        (devkit / "megaface_features" / f"{number % 3}/{number}@N00/{number}_0.jpg_net.bin").unlink()
    with pytest.raises(MissingFeaturesError, match="lack 2 of 10 images") as error:
        load_megaface(**options(devkit, algorithm="net")).score(DevkitFeatures(devkit))
    assert error.value.missing == [f"megaface_features/0/{number}@N00/{number}_0.jpg_net" for number in (3, 9)]
    present = EmbeddingSet(vectors=np.ones((1, 3), np.float32), names=["P_0/P_0_0.png"])
    with pytest.raises(MissingFeaturesError, match="lack 11 of 12 images"):
        load_megaface(**options(devkit)).score(FeatureSource(present, "x"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is no JSON"),
        ("[1]", "must be an object"),
        ("{}", "'path' must be a list"),
        ('{"path": [], "id": []}', "at least one"),
        ('{"path": ["a"], "id": ["a", "b"]}', "1 paths and 2 ids"),
        ('{"path": [{}], "id": ["a"]}', "list of texts"),
    ],
)
def test_lists_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=message):
        load_megaface(probes=tmp_path / "a.json", distractors=[tmp_path / "a.json"])


def test_a_list_leads_nowhere_else(devkit: Path) -> None:
    (devkit / "megaface_features_list.json_10_1").write_text('{"path": ["../../secret"]}')
    with pytest.raises(UserError, match="leads out of"):
        load_megaface(**options(devkit, algorithm="net")).score(DevkitFeatures(devkit))


def test_nothing_to_compare() -> None:
    rows = np.eye(3, dtype=np.float32)
    with pytest.raises(UserError, match="0 pairs of one person, 3 distractors"):
        count_megaface(rows, np.arange(3), rows)
    with pytest.raises(UserError, match="6 pairs of one person, 0 distractors"):
        count_megaface(rows, np.zeros(3, int), rows[:0])
