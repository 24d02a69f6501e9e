"""IJB: a small set in the published file formats, scored by loops that share nothing with the program."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_curve
from synthetic_ijb import SyntheticIjb, write_ijb

from faceprint.errors import UserError
from faceprint.evaluation.embedding_set import EmbeddingSet
from faceprint.evaluation.ijb import TemplateSearch, TemplateVerification, ijb_1n, ijbc
from faceprint.evaluation.ijb_files import check_counts, read_enrolled, read_faces, read_template_pairs
from faceprint.evaluation.metrics import tar_at_nearest_far
from faceprint.evaluation.sources import FeatureSource
from faceprint.evaluation.tasks import score_task
from faceprint.evaluation.templates import image_weights, pool_templates, template_scores


@pytest.fixture(scope="module")
def ijb(tmp_path_factory: pytest.TempPathFactory) -> SyntheticIjb:
    return write_ijb(tmp_path_factory.mktemp("ijb"))


def features(ijb: SyntheticIjb, *, norms: bool) -> EmbeddingSet:
    raw = ijb.features
    lengths = np.linalg.norm(raw, axis=1)
    vectors = (raw / lengths[:, None]).astype(np.float32) if norms else raw.astype(np.float32)
    return EmbeddingSet(
        vectors=vectors, names=ijb.names, norms=lengths.astype(np.float32) if norms else None, origin={"flip": True}
    )


def by_hand(ijb: SyntheticIjb, norm: bool, score: bool) -> dict[int, NDArray[np.float64]]:
    """Templates by plain loops: the mean over each medium's images, the sum over media."""
    templates: dict[int, NDArray[np.float64]] = {}
    for template in sorted(set(ijb.templates)):
        total = np.zeros(ijb.features.shape[1])
        for medium in {m for t, m in zip(ijb.templates, ijb.media, strict=True) if t == template}:
            images: list[NDArray[np.float64]] = []
            for i in range(len(ijb.names)):
                if (ijb.templates[i], ijb.media[i]) == (template, medium):
                    feature = ijb.features[i] if norm else ijb.features[i] / np.sqrt(sum(ijb.features[i] ** 2))
                    images.append(feature * ijb.scores[i] if score else feature)
            total += sum(images) / len(images)
        templates[template] = total / np.sqrt(sum(total**2))
    return templates


@pytest.mark.parametrize(("norm", "score"), itertools.product((False, True), repeat=2))
@pytest.mark.parametrize("norms", [False, True])
def test_verification_by_hand(ijb: SyntheticIjb, norm: bool, score: bool, norms: bool) -> None:
    task = ijbc(ijb.folder, norm=norm, detector_score=score, other_sizes=True)
    source = FeatureSource(features(ijb, norms=norms), "features")
    result = score_task(source, task)
    expected = by_hand(ijb, norm, score)
    scores = np.array([float(expected[a] @ expected[b]) for a, b, _ in ijb.pairs])
    same = np.array([label == 1 for _, _, label in ijb.pairs])
    assert result["flags"] == f"N{norm:d}D{score:d}F1"
    assert (result["num_pairs"], result["num_same"]) == (len(same), int(same.sum()))
    assert list(result["tar_at_far"]) == ["1e-2", "1e-1"]
    far, tar, _ = roc_curve(same, scores)
    for name in result["tar_at_far"]:
        allowed = int(float(name) * (~same).sum() + 1e-9)
        threshold = sorted(scores[~same].tolist(), reverse=True)[allowed]
        assert result["tar_at_far"][name] == np.mean(scores[same] > threshold)
        assert result["false_accepts"][name] == allowed
        assert result["thresholds"][name] == pytest.approx(threshold, abs=1e-6)
        _, place = min(list(zip(abs(far[::-1] - float(name)), range(len(far)), strict=True)))
        assert result["tar_at_nearest_far"][name] == pytest.approx(tar[::-1][place])
    (curve,) = result["curves"]
    falling = [*sorted(scores[~same].tolist(), reverse=True), -2.0]
    points = list(zip(curve["x"], curve["y"], strict=True))
    assert (len(points) > 10, points[0][0], points[-1]) == (True, 0.0, (1.0, 1.0))
    assert all(tar == np.mean(scores[same] > falling[round(far * (~same).sum())]) for far, tar in points)
    assert result["not_as_published"]["faces"] == {"found": len(ijb.names), "published": 469_375}
    shown = task.tables({**result, "model": "m"})
    assert "IJB-C 1:1, " + result["flags"] in shown[0].title
    assert "not comparable" in shown[1].title
    json.dumps(result)


def test_the_flags_change_the_figure(ijb: SyntheticIjb) -> None:
    """Else the test above would say nothing of them."""
    kinds = [by_hand(ijb, norm, score) for norm, score in itertools.product((False, True), repeat=2)]
    for one, other in itertools.combinations(kinds, 2):
        assert max(float(abs(one[t] - other[t]).max()) for t in one) > 1e-3


def test_search_by_hand(ijb: SyntheticIjb) -> None:
    task = ijb_1n(ijb.folder, other_sizes=True)
    assert isinstance(task, TemplateSearch)
    result = score_task(FeatureSource(features(ijb, norms=True), "features"), task)
    templates = by_hand(ijb, True, True)
    hits_of_all = dict.fromkeys((1, 5, 10), 0)
    tpirs: list[float] = []
    for name, gallery in ijb.galleries.items():
        tops: list[float] = []
        mates: list[tuple[float, int]] = []
        for probe, subject in ijb.probes:
            scored = {who: float(templates[probe] @ templates[t]) for t, who in gallery}
            if subject in scored:
                own = scored.pop(subject)
                mates.append((own, 1 + sum(other >= own for other in scored.values())))
            else:
                tops.append(max(scored.values()))
        side = result["galleries"][name]
        for rank in hits_of_all:
            hits = sum(place <= rank for _, place in mates)
            hits_of_all[rank] += hits
            assert side["rank"][str(rank)] == hits / len(mates)
        assert (side["num_mated"], side["num_non_mated"]) == (len(mates), len(tops))
        for fpir in ("0.01", "0.1"):
            allowed = int(float(fpir) * len(tops) + 1e-9)
            limit = sorted(tops, reverse=True)[allowed]
            expected = np.mean([own > limit and place == 1 for own, place in mates])
            assert side["tpir_at_fpir"][fpir] == expected
        cmc, open_set = (curve for curve in result["curves"] if curve["set"] == f", {name}")
        places = [place for _, place in mates]
        assert cmc["x"][-1] == len(gallery)
        assert all(y == np.mean([place <= x for place in places]) for x, y in zip(cmc["x"], cmc["y"], strict=True))
        found = {(x, y) for x, y in zip(open_set["x"], open_set["y"], strict=True)}
        limit = sorted(tops, reverse=True)[1]
        missed = float(np.mean([not (own > limit and place == 1) for own, place in mates]))
        assert any(x == pytest.approx(1 / len(tops)) and y == pytest.approx(missed) for x, y in found)
        place = int(len(tops) * 0.1) - 1
        limit = sorted(tops, reverse=True)[place]
        published = float(np.mean([own > limit and rank == 1 for own, rank in mates]))
        assert side["tpir_at_fpir_published"] == {"0.01": None, "0.1": published}
        tpirs.append(published)
    assert result["rank"] == {str(rank): hits / len(ijb.probes) for rank, hits in hits_of_all.items()}
    assert result["tpir_at_fpir_published"]["0.1"] == pytest.approx(np.mean(tpirs))
    assert result["rank"]["1"] < result["rank"]["5"] < 1
    assert task.tables({**result, "model": "m"})[0].rows[0][0] == "rank 1"


def test_crops_are_aligned_by_their_landmarks(ijb: SyntheticIjb) -> None:
    """The painted block of every crop comes to the place of the left eye in the template."""
    images = ijbc(ijb.folder, other_sizes=True).images
    for i in (0, len(ijb.names) - 1):
        crop = images.read(i)
        assert crop.shape == (112, 112, 3)
        assert crop[52, 38].astype(int).tolist() == pytest.approx([250, 30, 30], abs=12)
        assert crop[100, 100].max() < 60
    first, smaller = (
        ijbc(ijb.folder, size=size, other_sizes=True).images.fingerprint for size in ((112, 112), (96, 96))
    )
    assert first is not None
    assert smaller is not None
    assert first() != smaller()


def test_counts_are_asserted(ijb: SyntheticIjb) -> None:
    with pytest.raises(UserError, match=r"not IJB-C as published: 160 faces, not 469,375.*other_sizes=true"):
        ijbc(ijb.folder)
    with pytest.raises(
        UserError, match=r"8 first_gallery, not 1,772; 8 second_gallery, not 1,759; 32 probes, not 19,593"
    ):
        ijb_1n(ijb.folder)
    published = {"faces": 227_630, "templates": 12_115, "pairs": 8_010_270, "genuine": 10_270}
    assert check_counts("ijbb", published, other_sizes=False) == {}
    with pytest.raises(UserError, match="8,010,269 pairs"):
        check_counts("ijbb", {**published, "pairs": 8_010_269}, other_sizes=False)


def test_rows_of_a_file_without_names_are_in_the_order_of_the_list(ijb: SyntheticIjb) -> None:
    task = ijbc(ijb.folder, other_sizes=True)
    named = features(ijb, norms=False)
    shuffled = np.random.default_rng(0).permutation(len(named))
    numbered = EmbeddingSet(vectors=named.vectors, names=[str(i) for i in range(len(named))])
    mixed = EmbeddingSet(vectors=named.vectors[shuffled], names=[named.names[i] for i in shuffled])
    results = [score_task(FeatureSource(each, "f"), task) for each in (named, numbered, mixed)]
    assert results[0]["thresholds"] == results[1]["thresholds"] == results[2]["thresholds"]


def test_pooling_is_a_sparse_product() -> None:
    import scipy.sparse

    rng = np.random.default_rng(0)
    count = 5000  # several blocks
    raw = rng.normal(size=(count, 16)).astype(np.float32)
    templates, media, scores = rng.integers(0, 300, count) * 7, rng.integers(0, 4, count), rng.random(count)
    found = pool_templates(raw, templates, image_weights(templates, media, scores))
    ids, row = np.unique(templates, return_inverse=True)
    _, group, counts = np.unique(np.stack([templates, media], 1), axis=0, return_inverse=True, return_counts=True)
    matrix = scipy.sparse.csr_matrix((scores / counts[group.ravel()], (row, np.arange(count))), shape=(len(ids), count))
    expected = matrix @ raw.astype(np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.array_equal(found.ids, ids)
    np.testing.assert_allclose(found.vectors, expected, atol=1e-6)
    first, second = rng.integers(0, len(ids), (2, 4000))
    scored = template_scores(found, first, second)
    np.testing.assert_allclose(
        scored, [expected[a] @ expected[b] for a, b in zip(first, second, strict=True)], atol=1e-6
    )


def test_scores_in_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faceprint.evaluation.templates._SCORES", 40)
    rng = np.random.default_rng(0)
    found = pool_templates(rng.normal(size=(50, 8)), np.arange(50), np.ones(50))
    first, second = rng.integers(0, 50, (2, 999))
    expected = np.einsum("pd,pd->p", found.vectors[first], found.vectors[second])
    np.testing.assert_allclose(template_scores(found, first, second), expected, atol=1e-6)


def test_an_empty_template_is_rejected_and_counted(ijb: SyntheticIjb) -> None:
    embeddings = features(ijb, norms=True)
    gone = [i for i, template in enumerate(ijb.templates) if template == ijb.templates[0]]
    embeddings.vectors[gone] = 0
    task = ijbc(ijb.folder, norm=False, other_sizes=True)
    result = task.score(embeddings)
    assert result["empty_templates"] == 1
    assert any("without a readable image" in row[0] for row in task.tables({**result, "model": "m"})[1].rows)
    templates = task.faces.templates(embeddings)
    scores = template_scores(templates, task.pairs.first, task.pairs.second)
    touched = [ijb.templates[0] in pair[:2] for pair in ijb.pairs]
    assert (scores[touched] == -1).all()
    assert (scores[np.logical_not(touched)] > -1).all()
    embeddings.vectors[3, 0] = np.nan
    with pytest.raises(UserError, match="not finite"):
        task.score(embeddings)


def test_nearest_rule_equals_the_published_code() -> None:
    rng = np.random.default_rng(1)
    wanted = [0.01, 0.1, 0.25, 0.5, 0.9]
    for _ in range(500):
        scores = rng.integers(0, rng.integers(1, 20), rng.integers(2, 30)) / 7
        same = rng.integers(0, 2, len(scores))
        same[:2] = (0, 1)
        far, tar, _ = (values[::-1] for values in roc_curve(same, scores))
        for asked, found in zip(wanted, tar_at_nearest_far(scores, same, wanted), strict=True):
            _, place = min(list(zip(abs(far - asked), range(len(far)), strict=True)))
            accepted = scores > found.threshold
            assert found.tar == pytest.approx(tar[place]) == pytest.approx(accepted[same == 1].mean())
            assert found.false_accepts == (accepted & (same == 0)).sum() == round(far[place] * (same == 0).sum())


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_faces, "1.jpg 1 2\n2.jpg 1\n", "line 2: 2 fields"),
        (read_faces, "1.jpg one 2\n", "line 1: 'one' is not a whole number"),
        (read_faces, "", "is empty"),
        (read_enrolled, "A,B\n1,2\n", "header"),
        (read_enrolled, "TEMPLATE_ID,SUBJECT_ID\n1,2\n1,3\n", "two subjects"),
        (read_enrolled, "TEMPLATE_ID,SUBJECT_ID\n1\n", "line 2: 1 field"),
        (lambda path: read_template_pairs(path, np.array([1, 2])), "1 2 1\n1 2\n", "2 lines have 5 numbers"),
        (lambda path: read_template_pairs(path, np.array([1, 2])), "1 2 x\n", "something else"),
        (lambda path: read_template_pairs(path, np.array([1, 2])), "1 2 1.5\n", "something else"),
        (lambda path: read_template_pairs(path, np.array([1, 2])), "1 2 2\n", "must be 0 or 1"),
        (lambda path: read_template_pairs(path, np.array([1, 2])), "1 3 1\n", "no image, the first is 3"),
        (lambda path: read_template_pairs(path, np.array([1, 2])), "", "is empty"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, read: Any, text: str, message: str) -> None:
    path = tmp_path / "file.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read(path)


def test_files_that_do_not_belong_together(ijb: SyntheticIjb, tmp_path: Path) -> None:
    other = write_ijb(tmp_path)
    marks = other.folder / "meta" / "ijbc_name_5pts_score.txt"
    lines = marks.read_text().splitlines(keepends=True)
    for wrong, message in (
        (lines[:-1], "only 159 faces"),
        (lines + lines[:1], "more faces"),
        (lines[::-1], "face 1 is"),
    ):
        marks.write_text("".join(wrong))
        task = ijbc(other.folder, other_sizes=True)
        assert isinstance(task, TemplateVerification)
        with pytest.raises(UserError, match=message):
            task.score(features(other, norms=True))
    marks.unlink()
    with pytest.raises(UserError, match="no such file"):
        ijbc(other.folder, other_sizes=True).images.read(0)
    with pytest.raises(UserError, match=r"ijbc_face_tid_mid.txt: no such file; give folder=DIR"):
        ijbc(tmp_path / "nowhere")
    with pytest.raises(UserError, match="give set=ijbb or set=ijbc"):
        ijb_1n(tmp_path / "nowhere")
