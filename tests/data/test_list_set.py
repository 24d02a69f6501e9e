"""Image lists, compared with what a plain walk over the folder finds."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from faceprint.data.formats import open_source
from faceprint.data.list_set import list_set
from faceprint.data.lists import image_list
from faceprint.data.name_list import read_name_list
from faceprint.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Bob/2.jpg", "Ann/b.png", "Ann/a.jpg", "Cid/deep/1.jpg"):
        (tmp_path / "crops" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "crops" / name).write_bytes(name.encode())
    (tmp_path / "crops" / "Empty").mkdir()
    return tmp_path


def test_the_text_layout_of_2020(folder: Path) -> None:
    list_set(folder / "crops", folder / "crops.txt", absolute=True)
    names = ["Ann/a.jpg", "Ann/b.png", "Bob/2.jpg", "Cid/deep/1.jpg"]
    expected = [f"{folder}/crops/{name}  {label}" for name, label in zip(names, [0, 0, 1, 2], strict=True)]
    assert (folder / "crops.txt").read_text().splitlines() == expected


@pytest.mark.parametrize("name", ["crops.txt", "crops.lst", "lists/crops.csv", "crops/crops.csv"])
def test_lists_are_read_back_where_they_lie(folder: Path, name: str) -> None:
    list_set(folder / "crops", folder / name)
    read, direct = image_list(folder / name), open_source(folder / "crops")
    assert [read.encoded(i) for i in range(4)] == [direct.encoded(i) for i in range(4)]
    assert read.labels.tolist() == direct.labels.tolist()
    if name.endswith("csv"):
        assert list(read.class_names) == ["Ann", "Bob", "Cid"]


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names of files are Unicode there")
@pytest.mark.parametrize("name", ["a.txt", "a.lst", "a.csv"])
def test_names_that_are_not_utf8_are_read_back(folder: Path, name: str) -> None:
    (folder / "crops" / "Ann" / os.fsdecode(b"\xe9.jpg")).write_bytes(b"latin-1")
    listed = list_set(folder / "crops", folder / name)
    read = open_source(folder / name)
    assert {read.encoded(i) for i in range(5)} == {listed.encoded(i) for i in range(5)}
    assert b"latin-1" in {read.encoded(i) for i in range(5)}


def test_the_layout_of_im2rec(folder: Path) -> None:
    list_set(folder / "crops", folder / "crops.lst", root=folder / "crops")
    lines = [line.split("\t") for line in (folder / "crops.lst").read_text().splitlines()]
    assert lines == [
        ["0", "0", "Ann/a.jpg"],
        ["1", "0", "Ann/b.png"],
        ["2", "1", "Bob/2.jpg"],
        ["3", "2", "Cid/deep/1.jpg"],
    ]


def test_numbers_are_labels_in_their_order(tmp_path: Path) -> None:
    for number in (10, 9, 2):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("10.jpg 10\n9.jpg 9\n2.jpg 2\n")
    source = image_list(tmp_path / "a.txt")
    assert (list(source.class_names), source.labels.tolist()) == (["2", "9", "10"], [2, 1, 0])
    (tmp_path / "a.lst").write_text("7\t10.000000\t0.5\t10.jpg\n8\t9.000000\t0.5\t9.jpg\n")
    assert list(image_list(tmp_path / "a.lst").class_names) == ["9", "10"]


def test_a_list_of_a_list(folder: Path) -> None:
    list_set(folder / "crops", folder / "a.csv")
    list_set(folder / "a.csv", folder / "b.csv")
    assert (folder / "a.csv").read_text() == (folder / "b.csv").read_text()


def test_what_a_list_cannot_hold(folder: Path) -> None:
    os.rename(folder / "crops" / "Bob" / "2.jpg", folder / "crops" / "Bob" / "2 2.jpg")
    with pytest.raises(UserError, match=r"'crops/Bob/2 2.jpg': a path that this list cannot hold; take .csv"):
        list_set(folder / "crops", folder / "crops.txt")
    list_set(folder / "crops", folder / "crops.csv")
    assert image_list(folder / "crops.csv").encoded(2) == b"Bob/2.jpg"
    with pytest.raises(UserError, match=r"unknown list layout '.json'"):
        list_set(folder / "crops", folder / "crops.json")


def test_a_list_leaves_out_what_a_list_names(folder: Path) -> None:
    """By path, by name of a person, and then people with too few images; labels have no gaps."""
    (folder / "out.csv").write_text(f"path\n{folder}/crops/Ann/b.png\n")
    list_set(folder / "crops", folder / "a.csv", exclude=read_name_list(folder / "out.csv"))
    assert image_list(folder / "a.csv").paths == ["crops/Ann/a.jpg", "crops/Bob/2.jpg", "crops/Cid/deep/1.jpg"]
    (folder / "out.txt").write_text("Ann\n")
    listed = list_set(folder / "crops", folder / "b.txt", exclude=read_name_list(folder / "out.txt"))
    assert (list(listed.class_names), image_list(folder / "b.txt").labels.tolist()) == (["Bob", "Cid"], [0, 1])
    assert list(list_set(folder / "crops", folder / "c.txt", min_images=2).class_names) == ["Ann"]


def test_paths_that_no_file_can_have_are_missing(folder: Path) -> None:
    (folder / "a.csv").write_text(f"path,label\n{'a' * 5000},1\nb\0c.jpg,2\n")
    with pytest.raises(UserError, match="2 of 2 listed images are not in"):
        image_list(folder / "a.csv")
    (folder / "b.csv").write_text(f"path,label\n{'a' * 200_000},1\n")
    with pytest.raises(UserError, match=r"b\.csv:\d: cannot be read as CSV"):
        image_list(folder / "b.csv")
