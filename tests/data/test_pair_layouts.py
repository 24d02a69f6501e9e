"""The lists that CFP, AgeDB-30, CALFW, CPLFW and RFW come with, in trees small enough to read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from faceprint.data.pair_lists import LAYOUTS, person_of, read_pair_list
from faceprint.errors import UserError
from faceprint.evaluation.pairs import file_pairs

CALFW = """Ann_Bo_0001.jpg 1
Ann_Bo_0002.jpg 1
Cy_0001.jpg 1
Cy_0004.jpg 1
Ann_Bo_0001.jpg 0
Cy_0001.jpg 0
Cy_0004.jpg 0
Ann_Bo_0002.jpg 0
"""
AGEDB = "1/a.jpg 1/b.jpg 1\n1/a.jpg 2/c.jpg -1\n2/c.jpg 2/d.jpg 1\n2/d.jpg 1/b.jpg -1\n"
RFW = "m.0c7mh2\t1\t3\nm.0c7mh2\t1\tm.04jnp\t2\nm.04jnp\t2\t12\nm.0c7mh2\t3\tm.04jnp\t12\n"


@pytest.fixture
def cfp(tmp_path: Path) -> Path:
    """Two people, two frontal and two profile images each, two folds; numbers as in CFP, one of them out of order."""
    protocol = tmp_path / "Protocol"
    for kind, name in (("F", "frontal"), ("P", "profile")):
        lines = [f"{n} ../Data/Images/{1 + (n - 1) // 2:03d}/{name}/{1 + (n - 1) % 2:02d}.jpg" for n in (2, 1, 3, 4)]
        (protocol / f"Pair_list_{kind}.txt").parent.mkdir(exist_ok=True)
        (protocol / f"Pair_list_{kind}.txt").write_text("\r\n".join(lines) + "\r\n")
    for split, same, different in (("FP", "2,1", "1,4"), ("FF", "1,2", "2,3")):
        for fold in ("01", "02"):
            folder = protocol / "Split" / split / fold
            folder.mkdir(parents=True)
            (folder / "same.txt").write_text(same + "\n" if fold == "01" else "3,3\n")
            (folder / "diff.txt").write_text(different + "\n")
    return protocol


def test_cfp_frontal_with_profile(cfp: Path) -> None:
    pairs = read_pair_list(cfp / "Split" / "FP")
    assert [tuple(pair) for pair in pairs] == [
        ("001/frontal/02.jpg", "001/profile/01.jpg", True, 1),
        ("001/frontal/01.jpg", "002/profile/02.jpg", False, 1),
        ("002/frontal/01.jpg", "002/profile/01.jpg", True, 2),
        ("001/frontal/01.jpg", "002/profile/02.jpg", False, 2),
    ]


def test_cfp_frontal_with_frontal(cfp: Path) -> None:
    first = read_pair_list(cfp / "Split" / "FF", "cfp")[0]
    assert tuple(first) == ("001/frontal/01.jpg", "001/frontal/02.jpg", True, 1)


def test_cfp_has_two_sets_of_pairs(cfp: Path) -> None:
    with pytest.raises(UserError, match=r"give .*FP or .*FF"):
        read_pair_list(cfp)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("Split/FP/01/same.txt", "1,9\n", r"same\.txt:1: there is no image 9"),
        ("Split/FP/01/same.txt", "1;2\n", r"same\.txt:1: expected `i,j`"),
        ("Split/FP/02/diff.txt", "1,x\n", r"diff\.txt:1: 'x' is not a whole number"),
        ("Pair_list_P.txt", "1 ../../../etc/passwd\n", r"Pair_list_P\.txt:1: expected `number path`"),
        ("Pair_list_P.txt", "1 a/../..\n", r"Pair_list_P\.txt:1: expected `number path`"),
    ],
)
def test_cfp_mistakes_are_named(cfp: Path, file: str, text: str, message: str) -> None:
    (cfp / file).write_text(text)
    with pytest.raises(UserError, match=message):
        read_pair_list(cfp / "Split" / "FP")


def test_cfp_misses_no_fold_in_silence(cfp: Path) -> None:
    (cfp / "Split" / "FP" / "02" / "diff.txt").unlink()
    with pytest.raises(UserError, match=r"02/diff\.txt: no such file"):
        read_pair_list(cfp / "Split" / "FP")


def test_calfw(tmp_path: Path) -> None:
    """The same pairs come first; each kind is cut into folds on its own."""
    path = tmp_path / "pairs_CALFW.txt"
    path.write_text(CALFW)
    assert [tuple(pair) for pair in read_pair_list(path)] == [
        ("Ann_Bo_0001.jpg", "Ann_Bo_0002.jpg", True, 1),
        ("Cy_0001.jpg", "Cy_0004.jpg", True, 2),
        ("Ann_Bo_0001.jpg", "Cy_0001.jpg", False, 1),
        ("Cy_0004.jpg", "Ann_Bo_0002.jpg", False, 2),
    ]


def test_calfw_has_folds_as_published(tmp_path: Path) -> None:
    """3,000 same pairs, then 3,000 different: fold k takes 300 of each, in order."""
    path = tmp_path / "pairs_CPLFW.txt"
    path.write_text("".join(f"a_{n:04d}.jpg {int(n < 3000)}\nb_{n:04d}.jpg {int(n < 3000)}\n" for n in range(6000)))
    pairs = read_pair_list(path)
    assert [pair.fold for pair in pairs] == [1 + (n % 3000) // 300 for n in range(6000)]


def test_agedb(tmp_path: Path) -> None:
    path = tmp_path / "agedb_30_pair.txt"
    path.write_text(AGEDB)
    assert [tuple(pair) for pair in read_pair_list(path)] == [
        ("1/a.jpg", "1/b.jpg", True, 1),
        ("1/a.jpg", "2/c.jpg", False, 2),
        ("2/c.jpg", "2/d.jpg", True, 3),
        ("2/d.jpg", "1/b.jpg", False, 4),
    ]


def test_rfw(tmp_path: Path) -> None:
    """Points in names are no extensions; there is no line that says how many pairs follow."""
    path = tmp_path / "African_pairs.txt"
    path.write_text(RFW)
    pairs = read_pair_list(path)
    assert [tuple(pair)[:3] for pair in pairs] == [
        ("m.0c7mh2/m.0c7mh2_0001", "m.0c7mh2/m.0c7mh2_0003", True),
        ("m.0c7mh2/m.0c7mh2_0001", "m.04jnp/m.04jnp_0002", False),
        ("m.04jnp/m.04jnp_0002", "m.04jnp/m.04jnp_0012", True),
        ("m.0c7mh2/m.0c7mh2_0003", "m.04jnp/m.04jnp_0012", False),
    ]
    assert [pair.fold for pair in pairs] == [1, 2, 3, 4]


def test_rfw_images_are_found(tmp_path: Path) -> None:
    (tmp_path / "African_pairs.txt").write_text(RFW)
    for person, numbers in (("m.0c7mh2", (1, 3)), ("m.04jnp", (2, 12))):
        (tmp_path / "data" / person).mkdir(parents=True)
        for number in numbers:
            cv2.imwrite(str(tmp_path / "data" / person / f"{person}_{number:04d}.jpg"), np.zeros((4, 4, 3), np.uint8))
    pairs = file_pairs(tmp_path / "data", tmp_path / "African_pairs.txt", layout="rfw")
    assert len(pairs.names) == 4
    assert pairs.read(0).shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CALFW + "Cy_0001.jpg 1\n", "9 lines; a pair has two"),
        (CALFW.replace("Cy_0004.jpg 1", "Cy_0004.jpg 0"), r":3: the two lines of a pair say 1 and 0"),
        (CALFW.replace("Cy_0004.jpg 1", "Cy_0004.jpg"), r":4: expected `image flag`"),
        (AGEDB.replace("2/d.jpg 1\n", "2/d.jpg 1 1\n"), r":3: expected `image image flag`"),
        (AGEDB.replace("2/d.jpg 1\n", "2/d.jpg yes\n"), r":3: 'yes' is no flag"),
        (RFW.replace("m.04jnp\t2\t12", "m.04jnp\t2"), r":3: 2 fields"),
        (RFW.replace("m.04jnp\t2\t12", "m.04jnp\tx\t12"), r":3: 'x' is not a whole number"),
        ("image one\nimage two\n", "nor of another known layout"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        read_pair_list(tmp_path / "list.txt")


def test_a_layout_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("1.jpg 2.jpg 1\n" * 2)
    with pytest.raises(UserError, match=r":1: expected `image flag`"):
        read_pair_list(tmp_path / "list.txt", "calfw")
    with pytest.raises(UserError, match=r"unknown layout of pairs 'cfw' \(nearest: 'calfw'\)"):
        read_pair_list(tmp_path / "list.txt", "cfw")
    assert list(LAYOUTS) == ["lfw", "csv", "rfw", "calfw", "agedb", "cfp"]


def test_whom_an_image_shows() -> None:
    """What a training leaves out by a list of pairs, in every layout."""
    shown = {
        "Ann_Bo/Ann_Bo_0001": "Ann_Bo",
        "m.0c7mh2/m.0c7mh2_0001": "m.0c7mh2",
        "001/frontal/02.jpg": "001",
        "Ann_Bo_0001.jpg": "Ann_Bo",
        "m.0c7mh2_0012": "m.0c7mh2",
        "somebody.png": "somebody.png",
    }
    assert {image: person_of(image) for image in shown} == shown
