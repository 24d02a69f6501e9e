"""`data check`: every fault put into a small set is found, and nothing else is."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceprint.data.check import check_source, write_check
from faceprint.data.check.crops import alignment_score, is_grey, redness
from faceprint.data.check.fingerprints import distance, equal_groups, looks, similar_groups
from faceprint.data.check.known_sets import KNOWN_SETS, nearest_known
from faceprint.data.check.report import images_per_identity, label_range
from faceprint.data.check.write import excluded
from faceprint.data.folder import image_folder
from faceprint.data.images import read_image
from faceprint.data.synthetic import SyntheticFaces

FACES = SyntheticFaces(6, 4, difficulty=0.3, seed=1)


def write(folder: Path, name: str, image: np.ndarray, *parameters: int) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1], parameters)
    return path


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Six people, four faultless PNG crops each: crops/p0/0.png …"""
    for index in range(len(FACES)):
        image, label = FACES[index]
        write(tmp_path / "crops", f"p{label}/{index % 4}.png", image)
    return tmp_path / "crops"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_faultless_set(crops: Path) -> None:
    found = check_source(image_folder(crops))
    assert found.warnings == []
    assert (found.result["images"], found.result["identities"]) == (24, 6)
    assert found.result["sizes"] == [{"height": 112, "width": 112, "images": 24}]
    assert found.result["encodings"] == {"PNG": 24}
    assert found.result["bytes"] == sum(path.stat().st_size for path in crops.rglob("*.png"))
    assert found.result["duplicates"]["similar"] == {"groups": 0, "images": 0, "groups_across_identities": 0}
    assert excluded(found) == []


def test_unreadable_images_are_named(crops: Path) -> None:
    whole = (crops / "p1" / "2.png").read_bytes()
    (crops / "p1" / "2.png").write_bytes(whole[: len(whole) // 2])
    (crops / "p3" / "0.png").write_bytes(b"")
    (crops / "p4" / "1.png").write_bytes(b"no image at all")
    found = check_source(image_folder(crops))
    reasons = {Path(row["path"]).relative_to(crops).as_posix(): row["reason"] for row in found.result["unreadable"]}
    assert reasons.keys() == {"p1/2.png", "p3/0.png", "p4/1.png"}
    assert "truncated" in reasons["p1/2.png"]
    assert "empty" in reasons["p3/0.png"]
    assert found.warnings == ["3 images cannot be read"]
    assert [image_folder(crops).name(index) for index in excluded(found)] == [
        str(crops / name) for name in sorted(reasons)
    ]


def test_damage_that_decoders_pass_over_is_named(crops: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A JPEG with bytes repeated in its middle gives a picture, and a wrong one."""
    pytest.importorskip("simplejpeg")
    whole = cv2.imencode(".jpg", FACES[0][0])[1].tobytes()
    (crops / "p1" / "8.jpg").write_bytes(whole)
    (crops / "p1" / "9.jpg").write_bytes(whole[:1500] + whole[1400:])
    assert not np.array_equal(read_image(crops / "p1" / "8.jpg"), read_image(crops / "p1" / "9.jpg"))
    found = check_source(image_folder(crops))
    assert [Path(row["path"]).name for row in found.result["damaged"]] == ["9.jpg"]
    assert "1 images are damaged, though they can be decoded" in found.warnings
    assert excluded(found) == [], "a person decides"
    write_check(found, tmp_path / "report")
    assert [row["path"] for row in rows(tmp_path / "report" / "damaged.csv")] == [str(crops / "p1" / "9.jpg")]
    monkeypatch.setattr("faceprint.data.check.scan.sees_damage", lambda: False)
    assert check_source(image_folder(crops)).result["damaged"] is None


def test_copies_by_the_byte_and_by_the_look(crops: Path) -> None:
    (crops / "p0" / "copy.png").write_bytes((crops / "p0" / "1.png").read_bytes())  # within one identity
    (crops / "p2" / "copy.png").write_bytes((crops / "p5" / "1.png").read_bytes())  # across two
    image = FACES[4 * 3 + 2][0]
    small = cv2.resize(image, (90, 90), interpolation=cv2.INTER_AREA)
    write(crops, "p3/again.jpg", small, cv2.IMWRITE_JPEG_QUALITY, 60)
    found = check_source(image_folder(crops))
    assert found.result["duplicates"] == {
        "exact": {"groups": 2, "images": 4, "groups_across_identities": 1},
        "similar": {"groups": 1, "images": 2, "groups_across_identities": 0},
    }
    source = image_folder(crops)
    assert [source.paths[index] for index in excluded(found)] == ["p0/copy.png", "p3/again.jpg"]
    assert found.warnings == [
        "2 different image sizes",
        "2 images are the same file as another",
        "1 times several identities have the same file",
        "1 images are the same picture as another",
    ]


def test_fast_reads_headers_only(crops: Path) -> None:
    (crops / "p0" / "copy.png").write_bytes((crops / "p0" / "1.png").read_bytes())
    found = check_source(image_folder(crops), decode=False)
    assert found.result["sizes"] == [{"height": 112, "width": 112, "images": 25}]
    assert found.result["duplicates"]["exact"]["groups"] == 1
    assert found.result["duplicates"]["similar"] is None
    assert (found.result["crops"], found.result["grey"]) == (None, None)
    assert excluded(found)


def test_processes_find_the_same(crops: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faceprint.data.check.scan._BATCH", 7)
    (crops / "p4" / "1.png").write_bytes(b"no image at all")
    seen: list[tuple[int, int]] = []
    alone = check_source(image_folder(crops), progress=lambda *done: seen.append(done))
    many = check_source(image_folder(crops), workers=2)
    assert alone.result == many.result
    assert (alone.scan.facts == many.scan.facts).all()
    assert seen == [(7, 24), (14, 24), (21, 24), (24, 24)]


def test_swapped_colours_are_seen(tmp_path: Path) -> None:
    for index in range(len(FACES)):
        image, label = FACES[index]
        write(tmp_path, f"p{label}/{index}.png", image[..., ::-1])
    found = check_source(image_folder(tmp_path))
    assert found.result["crops"]["blue_share"] > 0.8
    assert any("red and blue look swapped" in warning for warning in found.warnings)


def test_uncropped_images_are_seen(tmp_path: Path) -> None:
    """Faces that fill a third of the picture, as in photographs."""
    for index in range(len(FACES)):
        image, label = FACES[index]
        wide = cv2.copyMakeBorder(image, 60, 60, 60, 60, cv2.BORDER_REFLECT)
        write(tmp_path, f"p{label}/{index}.png", wide)
    found = check_source(image_folder(tmp_path))
    assert found.result["crops"]["unaligned_share"] > 0.8
    assert any("do not look like aligned crops" in warning for warning in found.warnings)


def test_grey_and_blank_images_are_counted(crops: Path) -> None:
    grey = cv2.cvtColor(FACES[0][0], cv2.COLOR_RGB2GRAY)
    write(crops, "p0/grey.jpg", np.repeat(grey[..., None], 3, axis=2))
    for number in range(2):
        write(crops, f"p1/blank{number}.png", np.full((112, 112, 3), 90 + number, np.uint8))
    result = check_source(image_folder(crops)).result
    assert (result["grey"], result["blank"]) == (3, 2)
    assert "2 images are blank" in result["warnings"]
    assert result["duplicates"]["similar"]["groups"] == 1  # the grey one; blank ones say nothing


def test_what_is_written(crops: Path, tmp_path: Path) -> None:
    (crops / "p0" / "copy.png").write_bytes((crops / "p0" / "1.png").read_bytes())
    (crops / "p9").mkdir()
    (crops / "p9" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = check_source(image_folder(crops))
    written = {path.name for path in write_check(found, tmp_path / "report")}
    assert written >= {"stats.json", "unreadable.csv", "duplicates.csv", "single_image.csv", "exclude.csv"}
    assert json.loads((tmp_path / "report" / "stats.json").read_text()) == found.result
    assert rows(tmp_path / "report" / "single_image.csv") == [{"identity": "p9"}]
    assert [row["path"] for row in rows(tmp_path / "report" / "exclude.csv")] == [
        str(crops / "p0" / "copy.png"),
        str(crops / "p9" / "0.png"),
    ]
    assert [(row["group"], row["kind"], row["across"]) for row in rows(tmp_path / "report" / "duplicates.csv")] == [
        ("1", "exact", "0")
    ] * 2
    sheet = cv2.imread(str(tmp_path / "report" / "contact_sheet.png"))
    assert sheet is not None
    assert sheet.shape == (7 * 80, 10 * 80, 3)
    cell = cv2.resize(FACES[0][0], (80, 80), interpolation=cv2.INTER_AREA)
    assert (sheet[:80, :80, ::-1] == cell).all()
    assert sheet[6 * 80 + 40, 40].tolist() == [32, 32, 160]  # BGR: what cannot be read
    assert (tmp_path / "report" / "images_per_identity.png").stat().st_size > 1000


def test_lists_of_an_earlier_check_go(crops: Path, tmp_path: Path) -> None:
    (crops / "p0" / "bad.png").write_bytes(b"")
    write_check(check_source(image_folder(crops)), tmp_path / "report")
    (crops / "p0" / "bad.png").unlink()
    write_check(check_source(image_folder(crops)), tmp_path / "report")
    assert not (tmp_path / "report" / "unreadable.csv").exists()


def test_public_sets_are_known_by_their_counts() -> None:
    for known in KNOWN_SETS:
        assert nearest_known(known.images, known.identities) == known
    assert len(KNOWN_SETS) == 11
    near = nearest_known(5_179_400, 93_430)
    assert near is not None
    assert near.name == "MS1MV3"
    assert nearest_known(1_000_000, 93_431) is None


def test_label_ranges() -> None:
    assert label_range(["0", "1", "2"]) == {"min": 0, "max": 2, "missing": 0}
    assert label_range(["7", "3", "10"]) == {"min": 3, "max": 10, "missing": 5}
    assert label_range(["0007", "9"]) == {"min": 7, "max": 9, "missing": 1}
    assert label_range(["0", "ann"]) is None


def test_images_per_identity() -> None:
    spread = images_per_identity(np.array([1, 1, 2, 4, 30]))
    assert (spread["min"], spread["median"], spread["mean"], spread["max"], spread["single"]) == (1, 2.0, 7.6, 30, 2)
    assert spread["histogram"] == [
        {"from": 1, "to": 1, "identities": 2},
        {"from": 2, "to": 2, "identities": 1},
        {"from": 3, "to": 4, "identities": 1},
        {"from": 5, "to": 9, "identities": 0},
        {"from": 10, "to": 19, "identities": 0},
        {"from": 20, "to": 30, "identities": 1},
    ]


words = st.lists(st.integers(0, 2**64 - 1), max_size=12)


@given(words, st.lists(st.tuples(st.integers(0, 30), st.sets(st.integers(0, 63), max_size=5)), max_size=12))
@settings(max_examples=60, deadline=None)
def test_near_words_are_found_as_by_comparing_all(base: list[int], changes: list[tuple[int, set[int]]]) -> None:
    """Against a loop over all pairs and the components of the graph they make."""
    values = list(base)
    for index, bits in changes:
        if values:
            values.append(values[index % len(values)] ^ sum(1 << bit for bit in bits))
    near = {(a, b) for a in range(len(values)) for b in range(a) if (values[a] ^ values[b]).bit_count() <= 3}
    group = list(range(len(values)))
    for _ in values:
        for a, b in near:
            group[a] = group[b] = min(group[a], group[b])
    expected = {frozenset(i for i, g in enumerate(group) if g == own) for own in set(group)}
    look = np.array(values, np.uint64)
    found = similar_groups(look, np.zeros_like(look))
    assert {frozenset(members.tolist()) for members in found} == {members for members in expected if len(members) > 1}


def test_the_second_fingerprint_decides_too() -> None:
    look = np.array([5, 4], np.uint64)
    assert len(similar_groups(look, np.array([0, 2**10 - 1], np.uint64))) == 1
    assert len(similar_groups(look, np.array([0, 2**11 - 1], np.uint64))) == 0


def test_equal_words() -> None:
    found = equal_groups(np.array([4, 9, 4, 7, 9, 4], np.uint64))
    assert [group.tolist() for group in found] == [[0, 2, 5], [1, 4]]
    assert equal_groups(np.empty(0, np.uint64)) == []


def test_distance_counts_bits() -> None:
    a, b = np.array([0, 2**64 - 1, 12], np.uint64), np.array([0, 0, 10], np.uint64)
    assert distance(a, b).tolist() == [0, 64, 2]


def test_looks_survive_brightness_and_contrast() -> None:
    grey = cv2.cvtColor(FACES[9][0], cv2.COLOR_RGB2GRAY)
    other = cv2.cvtColor(FACES[10][0], cv2.COLOR_RGB2GRAY)
    brighter = np.clip(grey * 0.9 + 15, 0, 255).astype(np.uint8)
    near, far = (
        int(distance(*(np.array([looks(image)[0]], np.uint64) for image in (grey, second)))[0])
        for second in (brighter, other)
    )
    assert near <= 3 < far


def test_measures_of_crops_at_other_sizes() -> None:
    """A 112x96 crop is the 112x112 one without 8 columns on each side; larger ones look the same."""
    image = FACES[0][0]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    score = alignment_score(grey)
    assert abs(alignment_score(cv2.resize(grey, (224, 224))) - score) < 0.05
    assert abs(alignment_score(np.ascontiguousarray(grey[:, 8:104])) - score) < 0.1
    assert np.isnan(alignment_score(grey[:20]))
    assert np.isnan(alignment_score(np.full((112, 112), 7, np.uint8)))
    assert redness(image[..., ::-1]) == -redness(image)
    assert redness(image[:1, :1]) == float(image[0, 0, 0]) - float(image[0, 0, 2])
    assert not is_grey(image)
