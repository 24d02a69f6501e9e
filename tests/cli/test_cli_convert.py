"""The commands that write sets: arguments, tables, JSON, mistakes."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from faceprint.cli.data import app
from faceprint.data import SyntheticFaces, write_set
from faceprint.data.formats import open_source
from faceprint.data.write_records import RecordSetWriter
from faceprint.errors import UserError


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "crops"
    write_set(SyntheticFaces(6, 5, size=(24, 24)), folder, kind="folder")
    return folder


def run(*arguments: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json", "-"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def images(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def test_packed_and_unpacked_are_the_same_files(crops: Path, tmp_path: Path) -> None:
    packed = run("pack", crops, tmp_path / "train.rec", "--verify", "--workers", 2)
    assert (packed["format"], packed["images"], packed["identities"], packed["verified"]) == ("record", 30, 6, True)
    assert (tmp_path / "property").read_text() == "6,24,24"
    unpacked = run("unpack", tmp_path / "train.rec", tmp_path / "again")
    assert images(tmp_path / "again") == images(crops)
    assert unpacked["content"] == packed["content"]


def test_a_folder_name_becomes_a_record_set_in_a_folder(crops: Path, tmp_path: Path) -> None:
    assert run("pack", crops, tmp_path / "packed")["format"] == "record"
    assert (tmp_path / "packed" / "train.rec").exists()
    assert run("verify", tmp_path / "packed")["same"]


def test_a_shuffled_record_set_is_of_the_other_flavour(crops: Path, tmp_path: Path) -> None:
    packed = run("pack", crops, tmp_path / "a" / "train.rec")
    shuffled = run("shuffle", tmp_path / "a" / "train.rec", tmp_path / "b" / "train.rec", "--seed", 3)
    assert shuffled["content"] == packed["content"]
    lines = (tmp_path / "b" / "train.idx").read_text().splitlines()
    assert len(lines) == 30, "no header record, no identity records"
    labels = [line.split("\t")[1] for line in (tmp_path / "b" / "train.lst").read_text().splitlines()]
    assert labels != sorted(labels)
    with pytest.raises(UserError, match="keeps no order of images; give --to with record"):
        run("shuffle", crops, tmp_path / "c")


def test_split_and_merge_are_inverse(crops: Path, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    both = run("split", crops, a, b, "--fractions", "0.5,0.5", "--by", "identity")["sets"]
    assert [part["identities"] for part in both] == [3, 3]
    merged = run("merge", a, b, tmp_path / "all", "--classes", "by-name")
    assert images(tmp_path / "all") == images(crops)
    assert merged["identities"] == 6
    doubled = run("merge", crops, a, tmp_path / "more", "--to", "record")
    assert (doubled["images"], doubled["identities"]) == (45, 9)
    assert sum(name.endswith("~2") for name in open_source(tmp_path / "more").class_names) == 3


def test_a_split_that_was_stopped_goes_on(crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the second of two sets, with the first complete."""
    split = ("split", crops, tmp_path / "1" / "a.rec", tmp_path / "2" / "b.rec", "--fractions", "0.5,0.5")
    write = RecordSetWriter.write

    def stop_in_b(writer: RecordSetWriter, data: bytes, label: int, path: str) -> None:
        if writer._path.stem == "b":
            raise OSError(28, "No space left on device")
        write(writer, data, label, path)

    with monkeypatch.context() as patch:
        patch.setattr(RecordSetWriter, "write", stop_in_b)
        with pytest.raises(UserError, match="it goes on where it was"):
            run(*split)
    assert not list(tmp_path.glob("*/*.rec"))
    first, second = run(*split)["sets"]
    assert (first["resumed_from"], second["resumed_from"]) == (15, 0)
    assert len(open_source(tmp_path / "1" / "a.rec")) == len(open_source(tmp_path / "2" / "b.rec")) == 15
    assert not list(tmp_path.rglob("*.partial"))


def test_sets_that_share_a_file_are_refused_before_one_is_written(crops: Path, tmp_path: Path) -> None:
    """A folder has one `property`, and `a.rec` and `a.tar` would have one class map."""
    for first, second, shared in (("a.rec", "b.rec", "property"), ("a.rec", "a.tar", r"a\.classes\.txt")):
        with pytest.raises(UserError, match=f"each brings a file {shared}; put each set into a folder of its own"):
            run("split", crops, tmp_path / first, tmp_path / second, "--fractions", "0.5,0.5")
    assert not list(tmp_path.iterdir())


def test_subset_by_lists_and_limits(crops: Path, tmp_path: Path) -> None:
    (tmp_path / "exclude.csv").write_text("path\nsynthetic-000001/synthetic-000001_0002.png\n")
    (tmp_path / "people.txt").write_text("synthetic-000001\nsynthetic-000004\n")
    part = run(
        *("subset", crops, tmp_path / "part", "--identities", tmp_path / "people.txt"),
        *("--exclude", tmp_path / "exclude.csv", "--min-images", 2, "--max-images", 4),
    )
    assert (part["images"], part["identities"]) == (8, 2)
    assert "synthetic-000001/synthetic-000001_0002.png" not in images(tmp_path / "part")
    listed = run("subset", crops, tmp_path / "two", "--first", 2)
    assert (listed["images"], listed["identities"]) == (2, 1)


def test_list_then_pack_the_list(crops: Path, tmp_path: Path) -> None:
    assert run("list", crops, "--output", tmp_path / "crops.txt")["images"] == 30
    run("pack", tmp_path / "crops.txt", tmp_path / "a.rec")
    assert list(open_source(tmp_path / "a.rec").class_names) == [f"synthetic-{n:06d}" for n in range(6)]
    run("unpack", tmp_path / "a.rec", tmp_path / "again")
    assert images(tmp_path / "again") == images(crops)


def test_a_damaged_set_is_status_1(crops: Path, tmp_path: Path) -> None:
    run("unpack", crops, tmp_path / "copy")
    victim = tmp_path / "copy" / "synthetic-000002" / "synthetic-000002_0003.png"
    victim.write_bytes(victim.read_bytes()[:-20] + b"x" * 20)
    result = CliRunner().invoke(app, ["verify", str(tmp_path / "copy")])
    assert result.exit_code == 1
    assert "is not what was written" in result.stderr
    assert "unreadable: " in result.stderr


def test_what_is_passed_over_is_said(crops: Path, tmp_path: Path) -> None:
    """Images without a label in a shard, and files that are no images in a folder."""
    run("pack", crops, tmp_path / "all.tar")
    with tarfile.open(tmp_path / "all.tar", "a") as archive:
        archive.add(next(crops.rglob("*.png")), "nobody.png")
    run("unpack", crops, tmp_path / "copy")
    (tmp_path / "copy" / "synthetic-000002" / "notes.txt").touch()
    for source, words in (("all.tar", "1 images without a label"), ("copy", "1 files that do not end as images do")):
        arguments = ["pack", tmp_path / source, tmp_path / f"of-{source}" / "a.rec"]
        assert f"passed over: {words}" in CliRunner().invoke(app, [*map(str, arguments)]).stderr
    listed = CliRunner().invoke(app, ["list", str(tmp_path / "copy"), "--output", str(tmp_path / "list.csv")])
    assert f"passed over: {words}" in listed.stderr


def test_unreadable_images_are_named(crops: Path, tmp_path: Path) -> None:
    run("unpack", crops, tmp_path / "copy")
    bad = tmp_path / "copy" / "synthetic-000002" / "synthetic-000002_0003.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + bad.read_bytes()[8:60] + b"IEND")
    run("pack", tmp_path / "copy", tmp_path / "as-it-is.rec")
    with pytest.raises(UserError, match="1 of 30 images cannot be read"):
        run("pack", tmp_path / "copy", tmp_path / "x" / "a.rec", "--decode")
    with_limit = run("pack", tmp_path / "copy", tmp_path / "x" / "a.rec", "--decode", "--max-unreadable", 1)
    assert with_limit["images"] == 29
    assert with_limit["unreadable"][0][0].endswith("synthetic-000002_0003.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pack", "{crops}", "{crops}/train.rec"), "lies inside"),
        (("unpack", "{crops}", "{crops}"), "lies inside"),
        (("pack", "{crops}/synthetic-000001", "{crops}"), "which is to be written"),
        (("pack", "{crops}", "{tmp}/a", "--to", "zip"), "unknown data format 'zip'"),
        (("pack", "{tmp}/absent", "{tmp}/a"), "no such file or folder"),
        (("split", "{crops}", "{tmp}/a", "--fractions", "0.5,0.5"), "give one for each DST"),
        (("split", "{crops}", "{tmp}/a", "{tmp}/a", "--fractions", "0.5,0.5"), "a name is given twice"),
        (("split", "{crops}", "{tmp}/a", "{tmp}/b", "--fractions", "a,b"), "give numbers with commas"),
        (("shuffle", "{crops}", "{tmp}/a", "--to", "record", "--seed", "-1"), "seed -1"),
    ],
)
def test_mistakes(crops: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(*(argument.format(crops=crops, tmp=tmp_path) for argument in arguments))
    assert not any(tmp_path.iterdir())
