"""Names of images in new sets: kept, unique, and never leading out of the set."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from faceprint.data.target_paths import TargetPaths

sys.path.insert(0, str(Path(__file__).parent))
from blobs import Blobs

PARTS = st.sampled_from(["", ".", "..", "Ann", "a.jpg", "a~2.jpg", "a", "C:", "/", "\\", ".hid.png", "x\0y", "\ud800"])
PATHS = st.one_of(st.text(max_size=12), st.lists(PARTS, max_size=5).map("/".join), st.lists(PARTS).map("\\".join))


def paths_of(labels: list[int], names: list[str], stored: list[str]) -> list[str]:
    return [*map(TargetPaths(Blobs(np.array(labels, np.int64), names, stored)).__getitem__, range(len(labels)))]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_names_become_unique_safe_ones(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.one_of(PARTS, st.text(max_size=8)), min_size=1, max_size=5))
    rows = data.draw(st.lists(st.tuples(st.integers(0, len(names) - 1), PATHS), min_size=1, max_size=12))
    made = paths_of([label for label, _ in rows], names, [path for _, path in rows])
    assert len(set(made)) == len(made)
    folders: dict[str, int] = {}
    for path, (label, _) in zip(made, rows, strict=True):
        parts = path.split("/")
        assert len(parts) >= 2
        assert not set(parts) & {"", ".", ".."}
        assert not any(part.startswith(".") or any(ord(char) < 32 or char in "\\:" for char in part) for part in parts)
        assert path.lower().endswith((".jpg", ".jpeg", ".png", ".bmp", ".webp"))
        assert folders.setdefault(parts[0], label) == label, "a folder holds one identity"


def test_what_is_known_is_kept() -> None:
    stored = ["Ann/1.jpg", "Ann/old/1.jpg", "root/Bob/b c.png", "/data/Bob/x.jpg", "elsewhere/y.jpg"]
    made = paths_of([0, 0, 1, 1, 1], ["Ann", "Bob"], stored)
    assert made == ["Ann/1.jpg", "Ann/old/1.jpg", "Bob/b c.png", "Bob/x.jpg", "Bob/elsewhere/y.jpg"]


def test_images_without_a_path_are_numbered_within_their_identity() -> None:
    made = paths_of([1, 0, 1], ["Ann", "Bob"], [])
    assert made == ["Bob/Bob_0001.jpg", "Ann/Ann_0001.jpg", "Bob/Bob_0002.jpg"]


def test_names_that_lead_elsewhere_stay_inside() -> None:
    made = paths_of([0, 1, 1, 1], ["../up", "/etc"], ["../../x.jpg", "/etc/passwd", "..\\..\\y.jpg", "C:\\z.jpg"])
    assert made == ["%2E.%2Fup/x.jpg", "%2Fetc/etc/passwd.jpg", "%2Fetc/y.jpg", "%2Fetc/C%3A/z.jpg"]


def test_a_taken_name_gets_a_number() -> None:
    made = paths_of([0, 0, 0, 0], ["Ann"], ["a.jpg", "a~2.jpg", "x/../a.jpg", "Ann/a.jpg"])
    assert made[:3] == ["Ann/a.jpg", "Ann/a~2.jpg", "Ann/x/a.jpg"]
    assert made[3] == "Ann/a~3.jpg"


def test_two_identities_of_one_name_stay_two() -> None:
    assert [PurePosixPath(path).parts[0] for path in paths_of([0, 1, 2], ["A", "A", "A~2"], [])] == [
        "A",
        "A~2",
        "A~2~2",
    ]
