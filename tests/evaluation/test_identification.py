"""Identification by loops over single comparisons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from faceprint.errors import UserError
from faceprint.evaluation.embedding_set import EmbeddingSet
from faceprint.evaluation.identification import identification
from faceprint.evaluation.sources import FeatureSource
from faceprint.evaluation.tasks import score_task

PEOPLE = 12


@pytest.fixture
def lists(tmp_path: Path) -> tuple[Path, EmbeddingSet, list[tuple[str, str]], list[tuple[str, str]]]:
    """Two gallery images of twelve people, three probes of each, and 60 probes of 30 strangers."""
    rng = np.random.default_rng(0)
    gallery = [(f"g/{p}_{i}.png", f"p{p}") for p in range(PEOPLE) for i in range(2)]
    probes = [(f"q/{p}_{i}.png", f"p{p}") for p in range(PEOPLE) for i in range(3)]
    probes += [(f"q/s{p}_{i}.png", f"stranger{p}") for p in range(30) for i in range(2)]
    centres = {label: rng.normal(size=8) for label in sorted({label for _, label in gallery + probes})}
    vectors = [centres[label] + rng.normal(size=8) for _, label in gallery + probes]
    for name, rows in (("gallery", gallery), ("probes", probes)):
        (tmp_path / f"{name}.txt").write_text("".join(f"{path} {label}\n" for path, label in rows))
    features = EmbeddingSet(vectors=np.array(vectors, np.float32), names=[path for path, _ in gallery + probes])
    return tmp_path, features, gallery, probes


def test_by_hand(lists) -> None:
    folder, features, gallery, probes = lists
    task = identification(folder / "gallery.txt", folder / "probes.txt")
    result = score_task(FeatureSource(features, "features"), task)
    unit = {
        name: v / np.sqrt((v.astype(float) ** 2).sum())
        for name, v in zip(features.names, features.vectors, strict=True)
    }
    template = {}
    for person in {label for _, label in gallery}:
        total = sum(unit[path] for path, label in gallery if label == person)
        template[person] = total / np.sqrt((total**2).sum())
    scores = [{who: float(unit[path] @ t) for who, t in template.items()} for path, _ in probes]
    tops = sorted(
        (max(s.values()) for s, (_, who) in zip(scores, probes, strict=True) if who not in template), reverse=True
    )
    mated = [(s, who) for s, (_, who) in zip(scores, probes, strict=True) if who in template]
    assert (result["num_enrolled"], result["num_mated_searches"], result["num_non_mated_searches"]) == (12, 36, 60)
    ranks = [1 + sum(other >= s[who] for name, other in s.items() if name != who) for s, who in mated]
    assert result["fnir_at_rank"] == {str(r): np.mean([rank > r for rank in ranks]) for r in (1, 5, 10)}
    assert [point["fpir"] for point in result["identification_det"]] == ["3e-2", "1e-1"]
    for point, false_positives in zip(result["identification_det"], (1, 6), strict=True):
        limit = tops[false_positives]
        assert point["threshold"] == pytest.approx(limit, abs=1e-6)
        assert point["false_positives"] == false_positives
        misses = [not (s[who] > limit and rank == 1) for (s, who), rank in zip(mated, ranks, strict=True)]
        assert point["fnir"] == pytest.approx(np.mean(misses))
        others = [
            sum(v > limit + 1e-9 for n, v in s.items() if n != who) for s, (_, who) in zip(scores, probes, strict=True)
        ]
        assert point["selectivity"] == pytest.approx(np.mean(others), abs=1 / len(scores))
    different = sorted(
        (v for s, (_, w) in zip(scores, probes, strict=True) for n, v in s.items() if n != w), reverse=True
    )
    same = [s[who] for s, who in mated]
    assert [point["fmr"] for point in result["comparison_det"]] == ["1e-3", "3e-3", "1e-2", "3e-2", "1e-1", "3e-1"]
    for point in result["comparison_det"]:
        allowed = int(float(point["fmr"]) * len(different) + 1e-9)
        assert point["false_matches"] == allowed
        assert point["fnmr"] == pytest.approx(np.mean([score <= different[allowed] for score in same]))
    roc, cmc, open_set = result["curves"]
    for far, tar in zip(roc["x"], roc["y"], strict=True):
        limit = ([*different, -2.0])[round(far * len(different))]
        assert tar == np.mean([score > limit for score in same])
    assert (cmc["x"][0], cmc["x"][-1], cmc["y"][-1]) == (1, 12, 1.0)
    assert dict(zip(cmc["x"], cmc["y"], strict=True)) == {
        r: np.mean([rank <= r for rank in ranks]) for r in [1, *sorted({*ranks} - {1, 12}), 12]
    }
    for fpir, fnir in zip(open_set["x"], open_set["y"], strict=True):
        reached = [np.mean([not (s[w] > t and r == 1) for (s, w), r in zip(mated, ranks, strict=True)])
                   for t in thresholds_of(fpir, tops, [s[w] for s, w in mated])]  # fmt: skip
        assert min(abs(fnir - each) for each in reached) < 1e-9
    assert open_set["y"][-1] == pytest.approx(np.mean([rank > 1 for rank in ranks]))  # a threshold saves no mate
    tables = task.tables({**result, "model": "m"})
    assert "36 mated + 60 non-mated searches among 12 enrolled" in tables[0].title
    assert all(len(row) == len(table.columns) for table in tables for row in table.rows)
    json.dumps(result)


def thresholds_of(fpir: float, tops: list[float], own: list[float]) -> list[float]:
    """All distinct thresholds at which as many searches without mate find somebody."""
    count = round(fpir * len(tops))
    return [t for t in [2.0, *tops, *own, -2.0] if sum(top > t for top in tops) == count]


def test_a_closed_set_and_unreadable_images(lists) -> None:
    folder, features, _, probes = lists
    (folder / "probes.txt").write_text("".join(f"{path} {label}\n" for path, label in probes[:36]))
    task = identification(folder / "gallery.txt", folder / "probes.txt")
    chosen = features.vectors[:60].copy()
    chosen[[0, 24]] = 0
    result = task.score(EmbeddingSet(vectors=chosen, names=features.names[:60], unreadable={0: "torn", 24: "torn"}))
    assert result["identification_det"] == []
    assert [curve["kind"] for curve in result["curves"]] == ["roc", "cmc"]
    assert (result["failures_to_enrol"], result["failures_to_acquire"]) == (1, 1)
    assert 1 / 36 <= result["fnir_at_rank"]["10"] < 1


def test_mistakes(lists) -> None:
    folder, _, _, probes = lists
    with pytest.raises(UserError, match="24 images are in the gallery and among the probes"):
        identification(folder / "gallery.txt", folder / "gallery.txt")
    (folder / "strangers.txt").write_text("".join(f"{path} {label}\n" for path, label in probes[36:]))
    with pytest.raises(UserError, match=r"no label of .*strangers.txt is in"):
        identification(folder / "gallery.txt", folder / "strangers.txt")
    with pytest.raises(UserError, match="cannot be read as an image list"):
        identification(folder / "absent.txt", folder / "probes.txt")
