"""MFR against brute force and by hand: all-to-all, mask to non-mask, groups, lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceprint.errors import UserError
from faceprint.evaluation import products as module
from faceprint.evaluation.embedding_set import EmbeddingSet
from faceprint.evaluation.feature_files import MissingFeaturesError
from faceprint.evaluation.metrics import tar_at_far
from faceprint.evaluation.mfr import all_to_all, load_mfr, one_to_other
from faceprint.evaluation.products import unit_rows
from faceprint.evaluation.sources import FeatureSource


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._TILE, "cpu", (64, 96))


def people(count: int, noise: float, seed: int = 0, dim: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """1 to 4 images each, in no order."""
    random = np.random.default_rng(seed)
    ids = random.permutation(np.repeat(np.arange(count), random.integers(1, 5, count)))
    vectors = random.normal(size=(count, dim))[ids] + noise * random.normal(size=(len(ids), dim))
    return unit_rows(vectors, range(len(ids))), ids


def brute_force(first: np.ndarray, second: np.ndarray, same: np.ndarray, far: float) -> dict[str, Any]:
    """All scores at once, by the metric that has its own tests."""
    scores = np.einsum("pd,pd->p", first.astype(np.float64), second.astype(np.float64))
    point = tar_at_far(scores, same, far)
    return {
        "tar": point.tar,
        "threshold": pytest.approx(point.threshold, abs=1e-14),
        "false_accepts": point.false_accepts,
        "allowed_false_accepts": int(np.floor(far * (~same).sum() + 1e-9)),
        "num_same": int(same.sum()),
        "num_different": int((~same).sum()),
    }


@pytest.mark.parametrize("far", [0.0, 1e-4, 1e-2, 0.3])
@pytest.mark.parametrize("noise", [0.2, 1.0])
def test_all_to_all_is_brute_force(far: float, noise: float) -> None:
    vectors, ids = people(150, noise)
    i, j = np.triu_indices(len(ids), 1)
    expected = brute_force(vectors[i], vectors[j], ids[i] == ids[j], far)
    found = all_to_all(vectors, ids, far, device="cpu")
    assert {key: found[key] for key in expected} == expected
    scores, same = np.einsum("pd,pd->p", *vectors[[i, j]].astype(np.float64)), ids[i] == ids[j]
    falling = np.sort(scores[~same])[::-1]
    for x, y in zip(found["roc"]["x"], found["roc"]["y"], strict=True):
        assert y == np.mean(scores[same] > falling[round(x * len(falling))] + 1e-13)
    assert found["roc"]["x"][-1] == found["false_accepts"] / found["num_different"]


@pytest.mark.parametrize("far", [0.0, 1e-3, 0.1])
def test_one_to_other_is_brute_force(far: float) -> None:
    vectors, ids = people(150, 1.0)
    masked = np.arange(len(ids)) % 3 == 0
    i, j = (rows.ravel() for rows in np.meshgrid(np.flatnonzero(masked), np.flatnonzero(~masked), indexing="ij"))
    expected = brute_force(vectors[i], vectors[j], ids[i] == ids[j], far)
    found = one_to_other(vectors[masked], vectors[~masked], ids[masked], ids[~masked], far, device="cpu")
    assert {key: found[key] for key in expected} == expected


def test_by_hand_with_ties() -> None:
    """Ann at 0 and 20 degrees, Bo at 40 and 50, Cy at 60: a same pair ties with two different ones."""
    turned = np.deg2rad([0, 20, 40, 50, 60])
    vectors = np.stack([np.cos(turned), np.sin(turned)], 1).astype(np.float32)
    ids = np.array([0, 0, 1, 1, 2])
    # Different pairs: 10 (Bo 50, Cy), 20 (Ann 20, Bo 40), 20 (Bo 40, Cy), 30, 40, 40, 50, 60. Same: 20, 10.
    found = all_to_all(vectors, ids, 1 / 8, device="cpu")
    assert (found["num_same"], found["num_different"], found["allowed_false_accepts"]) == (2, 8, 1)
    assert found["threshold"] == pytest.approx(np.cos(np.deg2rad(20)), abs=1e-6)
    assert found["tar"] == 0.5
    found = all_to_all(vectors, ids, 3 / 8, device="cpu")  # the fourth is 30 degrees
    assert (found["tar"], found["false_accepts"]) == (1.0, 3)


def test_the_same_image_under_many_names_ties() -> None:
    vectors = unit_rows(np.repeat(np.random.default_rng(0).normal(size=(1, 64)), 300, 0), range(300))
    found = all_to_all(vectors, np.arange(300) // 3, 1e-3, device="cpu")
    assert (found["tar"], found["false_accepts"]) == (0.0, 0)


def test_published_counts_of_pairs() -> None:
    """MFR-ALL has N (N - 1) - positives "negatives"; ours are unordered."""
    images, positives = 1_624_305, 4_689_037
    assert images * (images - 1) - positives == 2_638_360_419_683
    negatives = images * (images - 1) // 2 - positives
    assert negatives == 1_319_177_865_323


ROWS = [
    ("a1", "Ann", "African", 0), ("a2", "Ann", "African", 0), ("b1", "Bo", "African", 0),
    ("c1", "Cy", "Asian", 0), ("c2", "Cy", "Asian", 0), ("d1", "Di", "Asian", 0),
    ("k1", "Kid", "Children", 0), ("k2", "Kid", "Children", 0), ("l1", "Lou", "Children", 0),
    ("m1", "Max", "Mask", 1), ("m2", "Max", "Mask", 0), ("n1", "Ned", "Mask", 1), ("n2", "Ned", "Mask", 0),
]  # fmt: skip


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "list.csv"
    path.write_text("path,identity,group,mask\n" + "".join(",".join(map(str, row)) + "\n" for row in ROWS))
    return path


def embedded(names: list[str]) -> FeatureSource:
    vectors = np.random.default_rng(0).normal(size=(len(names), 8)).astype(np.float32)
    return FeatureSource(EmbeddingSet(vectors=vectors, names=names), "x")


def test_sets_of_a_list(listed: Path) -> None:
    source = embedded([row[0] for row in ROWS])
    result = load_mfr(listed, far=0.1, mask_far=0.5, children_far=0.2).score(source, device="cpu")
    sets = result["sets"]
    keys = ("num_images", "num_same", "num_different", "far")
    assert {name: tuple(each[key] for key in keys) for name, each in sets.items()} == {
        "all": (6, 2, 13, 0.1),
        "african": (3, 1, 2, 0.1),
        "asian": (3, 1, 2, 0.1),
        "children": (3, 1, 2, 0.2),
        "mask": (4, 2, 2, 0.5),
    }  # fmt: skip
    assert [curve["set"] for curve in result["curves"]] == ["-ALL", "-African", "-Asian", "-Children", "-MASK"]
    assert result["ranking"] == 0.25 * sets["mask"]["tar"] + 0.75 * sets["all"]["tar"]
    cosines = {}
    vectors = {row[0]: source.embeddings.vectors[i].astype(float) for i, row in enumerate(ROWS)}
    for a in ("m1", "n1"):
        for b in ("m2", "n2"):
            cosines[a, b] = vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b])
    lower = min(cosines["m1", "n2"], cosines["n1", "m2"])  # K = 1 of 2: the second largest
    assert sets["mask"]["threshold"] == pytest.approx(lower, abs=1e-7)
    assert sets["mask"]["tar"] == np.mean([cosines["m1", "m2"] > lower, cosines["n1", "n2"] > lower])


def test_a_list_without_groups(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("path,identity\na,1\nb,1\nc,2\n")
    result = load_mfr(tmp_path / "l.csv").score(embedded(["a", "b", "c"]), device="cpu")
    assert list(result["sets"]) == ["all"]
    assert "ranking" not in result


def test_missing_features(listed: Path) -> None:
    with pytest.raises(MissingFeaturesError, match="lack 12 of 13 images") as error:
        load_mfr(listed).score(embedded(["a1"]))
    assert error.value.missing == [row[0] for row in ROWS[1:]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,person\na,b\n", "the header is 'path,person'"),
        ("path,identity\na\n", "line 2: 1 fields; the header has 2"),
        ("path,identity\na,\n", "line 2: path and identity"),
        ("path,identity,mask\na,b,maybe\n", "line 2: mask is 'maybe'; allowed: 1, 0"),
        ("path,identity\na,b\na,c\n", "names an image twice"),
        ("path,identity\na,b\n", "1 images"),
        ("", "the header is ''"),
        ('path,identity\n"a,b\n', "cannot be read as CSV"),
    ],
)
def test_lists_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        load_mfr(tmp_path / "l.csv")


def test_one_kind_of_pairs(tmp_path: Path) -> None:
    rows = np.eye(3, dtype=np.float32)
    with pytest.raises(UserError, match="0 pairs of one person and 3 of two"):
        all_to_all(rows, np.arange(3), 0.1)
    with pytest.raises(UserError, match="3 pairs of one person and 0 of two"):
        all_to_all(rows, np.zeros(3, int), 0.1)
