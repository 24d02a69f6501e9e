"""Pairs from files: what is read is what is written there, every mistake is named by file and line."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceprint.data.bin import write_bin
from faceprint.data.images import ImageError
from faceprint.data.pair_lists import read_pair_list
from faceprint.errors import UserError
from faceprint.evaluation.pairs import (
    MissingImagesError,
    PairSet,
    bin_pairs,
    file_pairs,
    synthetic_pairs,
)

LFW = """2\t2
Ann\t1\t2
Bo\t3\t12
Ann\t1\tBo\t3
Bo\t3\tCy_de\t1
Cy_de\t1\t2
Ann\t2\t1
Cy_de\t1\tAnn\t1
Bo\t12\tAnn\t2
"""
LFW_PAIRS = [
    ("Ann/Ann_0001", "Ann/Ann_0002", True, 1),
    ("Bo/Bo_0003", "Bo/Bo_0012", True, 1),
    ("Ann/Ann_0001", "Bo/Bo_0003", False, 1),
    ("Bo/Bo_0003", "Cy_de/Cy_de_0001", False, 1),
    ("Cy_de/Cy_de_0001", "Cy_de/Cy_de_0002", True, 2),
    ("Ann/Ann_0002", "Ann/Ann_0001", True, 2),
    ("Cy_de/Cy_de_0001", "Ann/Ann_0001", False, 2),
    ("Bo/Bo_0012", "Ann/Ann_0002", False, 2),
]
NAMES = sorted({name for pair in LFW_PAIRS for name in pair[:2]})


def encode(image: np.ndarray, extension: str = ".png") -> bytes:
    return cv2.imencode(extension, image[..., ::-1])[1].tobytes()


def picture(number: int, shape: tuple[int, int] = (8, 6)) -> np.ndarray:
    return np.full((*shape, 3), (number, 2 * number, 255 - number), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Each image has a colour of its own; extensions differ."""
    for number, name in enumerate(NAMES):
        path = tmp_path / "images" / f"{name}{['.png', '.jpg', '.jpeg', '.bmp'][number % 4]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture(number), path.suffix))
    (tmp_path / "pairs.txt").write_text(LFW)
    return tmp_path


def listed(pairs: PairSet, root: Path) -> list[tuple[Any, ...]]:
    """Back to what a list says, by way of the numbers."""
    names = [str(Path(name).relative_to(root).with_suffix("")) for name in pairs.names]
    return [
        (names[first], names[second], same, fold)
        for first, second, same, fold in zip(
            pairs.first, pairs.second, pairs.same.tolist(), pairs.fold.tolist(), strict=True
        )
    ]


def test_lfw_list(folder: Path) -> None:
    assert read_pair_list(folder / "pairs.txt") == LFW_PAIRS
    pairs = file_pairs(folder / "images", folder / "pairs.txt")
    assert listed(pairs, folder / "images") == LFW_PAIRS
    assert len(set(pairs.names)) == len(pairs.names) == len(NAMES)
    for number, name in enumerate(pairs.names):
        original = NAMES.index(str(Path(name).relative_to(folder / "images").with_suffix("")))
        assert np.abs(pairs.read(number).astype(int) - picture(original)).max() <= 3  # JPEG


def test_view_1_list_spaces_and_windows_line_ends(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_bytes(b"\xef\xbb\xbf1\r\nAnn 1 2\r\nAnn 1 Bo 3\r\n\r\n")
    assert read_pair_list(tmp_path / "pairs.txt") == [LFW_PAIRS[0], LFW_PAIRS[2]]


@pytest.mark.parametrize("with_folds", [True, False])
def test_csv_list(folder: Path, with_folds: bool) -> None:
    path = folder / "pairs.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["comment", "same", "path_b", "path_a", *(["fold"] if with_folds else [])])
        for number, (first, second, same, fold) in enumerate(LFW_PAIRS):
            flag = [["no", "False", "0"], ["yes", "TRUE", "1"]][same][number % 3]
            rows.writerow(["a, b", flag, second + ".jpg", first, *([fold] if with_folds else [])])
    pairs = file_pairs(folder / "images", path)
    # Without folds the four pairs of each kind go to four folds in the order listed.
    expected = (
        LFW_PAIRS
        if with_folds
        else [(*pair[:3], 1 + number // 4 * 2 + number % 2) for number, pair in enumerate(LFW_PAIRS)]
    )
    assert listed(pairs, folder / "images") == expected


def test_csv_without_folds_is_split_kind_by_kind(tmp_path: Path) -> None:
    """The list has all same pairs first: blocks of the list as a whole would be folds of one kind."""
    rows = [f"a{i},b{i},1" for i in range(25)] + [f"a{i},c{i},0" for i in range(40)]
    (tmp_path / "pairs.csv").write_text("\n".join(["path_a,path_b,same", *rows]))
    pairs = read_pair_list(tmp_path / "pairs.csv")
    count = Counter((pair.fold, pair.same) for pair in pairs)
    assert [count[fold, True] for fold in range(1, 11)] == [3] * 5 + [2] * 5
    assert [count[fold, False] for fold in range(1, 11)] == [4] * 10
    for kind in (True, False):
        folds = [pair.fold for pair in pairs if pair.same == kind]
        assert folds == sorted(folds)


def test_chosen_folds_need_only_their_images(folder: Path) -> None:
    for path in (folder / "images").rglob("Cy_de_0002*"):
        path.unlink()
    pairs = file_pairs(folder / "images", folder / "pairs.txt", [1])
    assert listed(pairs, folder / "images") == LFW_PAIRS[:4]
    assert len(pairs.names) == 5
    with pytest.raises(MissingImagesError):
        file_pairs(folder / "images", folder / "pairs.txt", [1, 2])
    with pytest.raises(UserError, match=r"no fold 0, 3; its folds are 1, 2"):
        file_pairs(folder / "images", folder / "pairs.txt", [0, 1, 3])
    with pytest.raises(UserError, match=r"none given"):
        file_pairs(folder / "images", folder / "pairs.txt", [])


def test_all_missing_images_are_listed_and_counted(tmp_path: Path) -> None:
    lines = [f"P{i:02}\t1\t2" for i in range(30)] + [f"P{i:02}\t1\tP{i + 1:02}\t1" for i in range(30)]
    (tmp_path / "pairs.txt").write_text("\n".join(["1\t30", *lines]))
    (tmp_path / "images/P00").mkdir(parents=True)
    (tmp_path / "images/P00/P00_0001.png").write_bytes(b"not looked into yet")
    with pytest.raises(MissingImagesError, match=r"lacks 60 of the 61 images .* and 40 more") as error:
        file_pairs(tmp_path / "images", tmp_path / "pairs.txt")
    expected = {f"P{i:02}/P{i:02}_000{j}" for i in range(30) for j in (1, 2)} | {"P30/P30_0001"}
    assert set(error.value.missing) == expected - {"P00/P00_0001"}
    assert str(error.value).count("_000") == 20
    with pytest.raises(UserError, match="no such folder"):
        file_pairs(tmp_path / "absent", tmp_path / "pairs.txt")


def replaced(line: int, text: str) -> str:
    lines = LFW.splitlines()
    lines[line - 1] = text
    return "\n".join(lines)


MALFORMED = {
    "empty": ("", ":1: neither"),
    "blank": ("\n \n", ":1: neither"),
    "prose": ("Ann and Bo\n", ":1: neither .* begins with 'Ann and Bo'"),
    "three numbers": (replaced(1, "2\t2\t2"), ":1: .*numbers of folds"),
    "zero folds": (replaced(1, "0\t2"), ":1: .*numbers of folds"),
    "too few": (LFW.rsplit("\n", 2)[0], "7 pairs follow .* 2 folds x 2 kinds x 2 pairs"),
    "too many": (LFW + "Ann\t1\tBo\t3\n", "9 pairs follow"),
    "huge": (replaced(1, "999999999\t999999999"), "8 pairs follow"),
    "huger": (replaced(1, "9" * 5000 + "\t2"), ":1: .*at most nine digits"),
    "different among same": (replaced(2, "Ann\t1\tBo\t3"), ":2: 4 fields; here the line is 'name a b'"),
    "same among different": (replaced(9, "Ann\t1\t2"), ":9: 3 fields; here the line is 'name1 a name2 b'"),
    "no number": (replaced(3, "Bo\tx\t12"), ":3: 'x' is not a whole number"),
    "negative": (replaced(3, "Bo\t-1\t12"), ":3: '-1' is not a whole number"),
    "path for a name": (replaced(3, "../Bo\t1\t12"), ":3: '../Bo' is not a person's name"),
    "no name": (replaced(3, "\t1\t12"), ":3: '' is not a person's name"),
    "csv without column": ("path_a,path_c,same\na,b,1\n", ":1: no column path_b"),
    "csv alone": ("path_a,path_b,same\n", "no pairs follow"),
    "csv short row": ("path_a,path_b,same\na,b,1\na,b\n", ":3: 2 fields, the first line has 3"),
    "csv flag": ("path_a,path_b,same\n\na,b,maybe\n", ":3: same is 'maybe'"),
    "csv fold": ("path_a,path_b,same,fold\na,b,1,one\n", ":2: 'one' is not a whole number"),
    "csv name": ("path_a,path_b,same\n,b,1\n", ":2: an image without name"),
    "csv quote": ('path_a,path_b,same\n"a,b,1\na,b,0\n', ":2: not CSV"),
    "csv field of a megabyte": ("path_a,path_b,same\n" + "a" * 1_000_000 + ",b,1\n", ":2: not CSV"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_list(tmp_path: Path, name: str) -> None:
    text, message = MALFORMED[name]
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_pair_list(tmp_path / "list.txt")
    assert str(error.value).startswith(str(tmp_path / "list.txt"))
    assert len(str(error.value)) < 400


def test_lists_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "image.jpg").write_bytes(encode(picture(3), ".jpg"))
    with pytest.raises(UserError, match="not a text file"):
        read_pair_list(tmp_path / "image.jpg")
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match="no such file"):
            read_pair_list(path)


def test_bin_set(tmp_path: Path) -> None:
    images = [encode(picture(number)) for number in [0, 1, 2, 3, 0, 2, 4, 4] + [0] * 20]
    write_bin(tmp_path / "a.bin", images, [1, 0, 0, 1] + [1, 0] * 5)
    pairs = bin_pairs(tmp_path / "a.bin")
    assert len(pairs.names) == 5  # equal images are embedded once
    assert pairs.names[4].endswith("a.bin: image 6")
    assert pairs.first.tolist() == [0, 2, 0, 4] + [0] * 10
    assert pairs.second.tolist() == [1, 3, 2, 4] + [0] * 10
    assert pairs.same.tolist() == [True, False, False, True] + [True, False] * 5
    assert pairs.fold.tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 9, 10]  # as KFold(10, shuffle=False)
    assert pairs.resize_short
    for number in range(5):
        assert (pairs.read(number) == picture(number)).all()
    chosen = bin_pairs(tmp_path / "a.bin", [2, 5])
    assert [name[-2:] for name in chosen.names] == [" 4", " 5", " 6"]
    assert (chosen.first.tolist(), chosen.second.tolist()) == ([0, 2, 0], [1, 2, 0])
    assert chosen.same.tolist() == [False, True, True]
    with pytest.raises(UserError, match="no fold 11"):
        bin_pairs(tmp_path / "a.bin", [11])


def test_bin_image_that_is_none(tmp_path: Path) -> None:
    write_bin(tmp_path / "a.bin", [encode(picture(1)), b"noise"], [1])
    pairs = bin_pairs(tmp_path / "a.bin")
    assert pairs.fold.tolist() == [1]
    with pytest.raises(ImageError, match=r"a\.bin: image 1: not an image"):
        pairs.read(1)


@pytest.mark.parametrize(
    ("people", "images", "number", "folds"),
    [(20, 3, 60, 10), (21, 4, 101, 10), (7, 2, 9, 3), (2, 2, 2, 1), (3, 2, 6, 1)],
)
def test_synthetic_pairs(people: int, images: int, number: int, folds: int) -> None:
    pairs = synthetic_pairs(people, images, number, seed=5, first_identity=40)
    person = [name.split("/")[0] for name in pairs.names]
    members: dict[int, set[str]] = {}
    for first, second, same, fold in zip(pairs.first, pairs.second, pairs.same, pairs.fold, strict=True):
        assert first != second
        assert (person[first] == person[second]) == same
        members.setdefault(int(fold), set()).update((person[first], person[second]))
    assert sorted(members) == list(range(1, folds + 1))
    assert sum(map(len, members.values())) == len(set().union(*members.values()))  # folds share nobody
    assert len({frozenset(pair) for pair in zip(pairs.first, pairs.second, strict=True)}) == number
    count = Counter(zip(pairs.fold.tolist(), pairs.same.tolist(), strict=True))
    assert sum(count[fold, True] for fold in members) == number - number // 2
    assert max(count.values()) - min(count.values()) <= 1
    assert {int(name.split("/")[0].split("-")[1]) for name in pairs.names} <= set(range(40, 40 + people))
    again = synthetic_pairs(people, images, number, seed=5, first_identity=40)
    assert (pairs.first == again.first).all()
    assert (pairs.read(1) == again.read(1)).all()


def test_synthetic_differs_by_seed() -> None:
    one, two = synthetic_pairs(20, 3, 40, seed=1), synthetic_pairs(20, 3, 40, seed=2)
    assert one.names != two.names or (one.first != two.first).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: synthetic_pairs(1, 2, 2), "at least 2 identities"),
        (lambda: synthetic_pairs(2, 1, 2), "at least 2 identities"),
        (
            lambda: synthetic_pairs(20, 2, 1000),
            r"a fold has only 2 pairs of one person, 50 are wanted; ask for fewer pairs",
        ),
        (lambda: synthetic_pairs(20, 2, 20, difficulty=2.0), "difficulty"),
    ],
)
def test_synthetic_refused(make: Callable[[], PairSet], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
