"""Image folders and image lists."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceprint.data.folder import image_folder
from faceprint.data.formats import open_source
from faceprint.data.lists import image_list
from faceprint.data.mixed import mix
from faceprint.data.passed_over import skipped
from faceprint.data.source import keep_identities
from faceprint.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "faces"
    for identity, count in (("bob", 2), ("ann", 3), ("cy d", 1)):
        for number in range(count):
            path = root / identity / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((4, 4, 3), 10 * number + len(identity), np.uint8))
    (root / "ann" / "notes.txt").write_text("x")
    (root / "empty").mkdir()
    (root / ".hidden").mkdir()
    return root


def test_folder_labels_are_sorted_names_without_gaps(folder: Path) -> None:
    source = image_folder(folder)
    assert list(source.class_names) == ["ann", "bob", "cy d"]
    assert source.labels.tolist() == [0, 0, 0, 1, 1, 2]
    image, label = source[4]
    assert (label, image[0, 0, 0]) == (1, 13)
    assert source.name(4) == str(folder / "bob" / "1.png")


def test_links_to_folders_are_followed_and_loops_end(folder: Path, tmp_path: Path) -> None:
    (folder / "bob").rename(tmp_path / "elsewhere")
    (folder / "bob").mkdir()
    (folder / "bob" / "session").symlink_to(tmp_path / "elsewhere")
    (folder / "bob" / "loop").symlink_to("..")
    (tmp_path / "elsewhere" / "back").symlink_to(".")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path)
    source = image_folder(folder)
    assert sorted(source.paths) == [
        *(f"ann/{n}.png" for n in range(3)),
        *(f"bob/session/{n}.png" for n in (0, 1)),
        "cy d/0.png",
    ]


def test_what_a_folder_has_besides_is_counted(folder: Path) -> None:
    assert skipped(image_folder(folder)) == {"files that do not end as images do": 1}
    for name in ("loose.jpg", "notes.txt", ".hidden.jpg", "bob/clip.gif", "bob/.hidden.gif"):
        (folder / name).touch()
    everybody_but_ann = keep_identities(image_folder(folder), lambda name, _: name != "ann")
    assert skipped(everybody_but_ann) == {
        "images in no folder of an identity": 1,
        "files that do not end as images do": 2,
    }
    assert skipped(mix([everybody_but_ann, image_folder(folder)], by_name=True)).total() == 6


def test_identities_can_be_left_out(folder: Path) -> None:
    source = keep_identities(image_folder(folder), lambda name, count: count >= 2 and name != "ann")
    assert list(source.class_names) == ["bob"]
    assert source.labels.tolist() == [0, 0]
    assert source.name(0).endswith("bob/0.png")


def test_folder_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        image_folder(tmp_path / "absent")
    with pytest.raises(UserError, match="no images; expected"):
        image_folder(tmp_path)


@pytest.mark.parametrize("name", ["", "ann"])
def test_a_folder_that_cannot_be_listed_is_no_empty_one(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_folder = os.scandir

    def refuse(path: str | Path) -> object:
        if Path(path) == folder / name:
            raise PermissionError(13, "Permission denied", str(path))
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for read in (image_folder, open_source):
        with pytest.raises(UserError, match=f"{folder / name}: cannot be .* \\(Permission denied\\)"):
            read(folder)


def test_a_compressed_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "faces.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"faces\.zip: is of no known format.* Unpack a compressed archive first"):
        open_source(tmp_path / "faces.zip")


def test_what_the_system_refuses_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        open_source(tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    "text",
    [
        "ann/0.png 7\nbob/1.png 3\nann/1.png 7\n",
        "ann/0.png\t7\ncy d/0.png\t9\n\nbob/1.png\t3\n",
        "0\t7.000000\tann/0.png\n5\t9.000000\t0.5\tcy d/0.png\n2\t3.000000\tbob/1.png\n",
        "label,path\n7,ann/0.png\n9,cy d/0.png\n",
        "Path\tlabel\nann/0.png\tx, y\ncy d/0.png\tz\n",
        '\ufeffPath, Label\n"cy d/0.png", x y\nann/0.png, z\n',
    ],
)
def test_list_layouts(folder: Path, text: str) -> None:
    path = folder / "list.txt"
    path.write_text(text, encoding="utf-8")
    source = image_list(path)
    assert set(source.labels.tolist()) == set(range(len(source.class_names)))
    for index in range(len(source)):
        assert source[index][0].shape == (4, 4, 3)
    if "cy d" in text:
        assert any("cy d" in source.name(index) for index in range(len(source)))


def test_labels_of_mxnet_lists_are_whole_numbers(folder: Path) -> None:
    (folder / "a.lst").write_text("3\t12.000000\tann/0.png\n0\t7.000000\t1.5\tcy d/0.png\n")
    source = image_list(folder / "a.lst")
    assert (list(source.class_names), source.labels.tolist()) == (["7", "12"], [1, 0])
    assert source.name(1).endswith("cy d/0.png")


def test_list_equals_folder(folder: Path, tmp_path: Path) -> None:
    whole = image_folder(folder)
    rows = [f"{path}\t{whole.class_names[label]}" for path, label in zip(whole.paths, whole.labels, strict=True)]
    (tmp_path / "list.tsv").write_text("\n".join(rows))
    listed = image_list(tmp_path / "list.tsv", root=folder)
    assert listed.class_names == whole.class_names
    assert listed.labels.tolist() == whole.labels.tolist()
    assert list(listed.paths) == list(whole.paths)


def test_list_mistakes(folder: Path) -> None:
    path = folder / "list.txt"
    for text, words in (
        ("", "the list is empty"),
        ("ann/0.png", r"list\.txt:1: expected `path label`"),
        ("ann/0.png 1\ncy d/0.png 2", r"list\.txt:2: .*spaces need tabs or CSV"),
        ("path,label\nann/0.png,\n", r"list\.txt:2: a row needs a path and a label"),
        ("a/0.png 1\nann/0.png 1\nb/0.png 2", r"2 of 3 listed images are not in .*: a/0\.png, b/0\.png$"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=words):
            image_list(path)
    with pytest.raises(UserError, match="cannot be read as an image list"):
        image_list(folder / "absent.txt")
