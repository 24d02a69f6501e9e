"""Tar shards, against Python's tarfile, which shares no code with our reader and writer."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from faceprint.data import shards
from faceprint.data.formats import open_source
from faceprint.data.images import ImageError
from faceprint.data.shards import ShardSource, ShardWriter, make_index, shard_source
from faceprint.data.synthetic import SyntheticFaces
from faceprint.data.tar import Member, read_members
from faceprint.data.write_set import write_set
from faceprint.errors import UserError

FACES = SyntheticFaces(3, 4, size=(16, 16))
IMAGE = FACES.encoded(0)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "SHARD_IMAGES", 5)


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, "/etc/passwd" if kind == tarfile.SYMTYPE else ""
    archive.addfile(info, io.BytesIO(data))


def archive_of(files: list[tuple[str, bytes]], kind: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for name, data in files:
            add(archive, name, data)
    return buffer.getvalue()


def members(data: bytes) -> list[Member]:
    return list(read_members(io.BytesIO(data), len(data), "x.tar"))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1),
            st.binary(max_size=1200),
        ),
        max_size=6,
    ),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
@example([("d/" + "ä" * 200 + ".jpg", b"x" * 512)], tarfile.GNU_FORMAT)
@example([("d" * 90 + "/" + "e" * 90, b"x")], tarfile.USTAR_FORMAT)
def test_members_are_those_that_tarfile_wrote(files: list[tuple[str, bytes]], kind: int) -> None:
    data = archive_of(files, kind)
    found = members(data)
    assert [member.name for member in found] == [name for name, _ in files]
    assert [data[member.offset : member.offset + member.size] for member in found] == [body for _, body in files]


WHOLE = archive_of([("a.jpg", IMAGE), ("a.cls", b"3"), ("d/" + "b" * 150 + ".json", b'{"label": 2}')])


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255), st.booleans())
def test_a_damaged_archive_is_an_error_or_read_within_its_bounds(at: int, flip: int, cut: bool) -> None:
    damaged = WHOLE[:at] if cut else WHOLE[:at] + bytes([WHOLE[at] ^ flip]) + WHOLE[at + 1 :]
    try:
        index = make_index(io.BytesIO(damaged), len(damaged), "x.tar")
    except UserError as refused:
        message = str(refused)
    else:
        message = ""
    if message:
        assert message.startswith("x.tar: ")
        return
    assert (index["offsets"] + index["sizes"] <= len(damaged)).all()
    # A cut is only unnoticed in the zeros after the first block of the end marker.
    assert not cut or not any(WHOLE[at:])


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"size": 1 << 60}, "is past the end of the file"),
        ({"size": 1 << 30, "type": tarfile.GNUTYPE_LONGNAME}, "is past the end|at most 65536 are read"),
        ({"size": 1 << 30, "type": tarfile.XHDTYPE}, "is past the end|at most 65536 are read"),
    ],
)
def test_absurd_sizes_are_refused(header: dict[str, object], words: str) -> None:
    info = tarfile.TarInfo("a.jpg")
    for key, value in header.items():
        setattr(info, key, value)
    with pytest.raises(UserError, match=words):
        members(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))


def test_an_extended_header_that_fits_but_is_huge_is_refused() -> None:
    info = tarfile.TarInfo("a")
    info.size, info.type = 1 << 20, tarfile.GNUTYPE_LONGNAME
    with pytest.raises(UserError, match="at most 65536 are read"):
        members(info.tobuf() + bytes((1 << 20) + 1024))


def test_what_is_no_sample_is_counted(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        add(archive, "./d", kind=tarfile.DIRTYPE)
        add(archive, "link.jpg", kind=tarfile.SYMTYPE)
        add(archive, "../../etc/x.jpg", IMAGE)
        add(archive, "../../etc/x.json", b'{"identity": "eve", "age": 3}')
        add(archive, "lonely.png", IMAGE)
        add(archive, "nobody.cls", b"4")
        add(archive, "notes.txt", b"hello")
        add(archive, "john.smith.jpg", IMAGE)
        add(archive, "y.jpg", IMAGE)
        add(archive, "y.cls", b"12")
    source = shard_source(tmp_path)
    assert dict(source.skipped) == {
        "links and other things that are no files": 1,
        "images without a label": 1,
        "labels without an image": 1,
        "images with a second dot in their names, where a key ends": 1,
    }
    assert list(source.class_names) == ["12", "eve"]
    assert source[0][0].shape == (16, 16, 3)
    assert source.name(0) == f"{tmp_path}/s.tar/../../etc/x.jpg"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([("a.jpg", b"x"), ("a.cls", b"three")], "a.cls is neither a number nor JSON"),
        ([("a.jpg", b"x"), ("a.json", b"[" * 60_000)], "a.json is neither a number nor JSON"),
        ([("a.jpg", b"x"), ("a.json", b'{"label": 1.5}')], "says '1.5'; an identity is a whole number or a name"),
        ([("a.jpg", b"x"), ("a.png", b"x")], "a.png is a second image"),
        ([("a.jpg", b"x"), ("a.cls", b"1" * 70_000)], "a label has at most"),
        ([("a.jpg", b"x")], "no labelled images.*; 1 images without a label"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, files: list[tuple[str, bytes]], words: str) -> None:
    (tmp_path / "0.tar").write_bytes(archive_of(files))
    with pytest.raises(UserError, match=words):
        shard_source(tmp_path / "0.tar")


def test_numbers_keep_their_order_and_names_come_from_the_class_map(tmp_path: Path) -> None:
    files = [
        (f"{number}{end}", data) for number in (10, 2) for end, data in ((".jpg", IMAGE), (".cls", b"%d" % number))
    ]
    (tmp_path / "0.tar").write_bytes(archive_of(files))
    source = shard_source(tmp_path)
    assert (list(source.class_names), source.labels.tolist()) == (["2", "10"], [1, 0])
    (tmp_path / "classes.txt").write_text("".join(f"name {number}\n" for number in range(11)))
    assert list(shard_source(str(tmp_path / "*.tar")).class_names) == ["name 2", "name 10"]


def write(folder: Path, start: int, stop: int) -> ShardWriter:
    writer = ShardWriter(folder, FACES.class_names, FACES.labels[:start])
    for index in range(start, stop):
        writer.write(FACES.encoded(index), int(FACES.labels[index]), f"p{FACES.labels[index]}/{index}.png")
    return writer


def test_shards_are_read_by_tarfile(tmp_path: Path) -> None:
    write(tmp_path, 0, 12).finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000.tar", "00001.tar", "00002.tar"]
    found: dict[str, bytes] = {}
    for path in sorted(tmp_path.iterdir()):
        with tarfile.open(path) as archive:
            found |= {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]
    for index in range(12):
        label = FACES.labels[index]
        assert found[f"p{label}/{index}.png"] == FACES.encoded(index)
        assert found[f"p{label}/{index}.cls"] == b"%d" % label
    assert len(found) == 24


@pytest.mark.parametrize("stop", range(13))
def test_a_writer_goes_on_from_any_checkpoint_to_the_same_bytes(tmp_path: Path, stop: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    write(whole, 0, 12).finish()
    first = write(parts, 0, stop)
    lengths = first.checkpoint()
    if stop < 12:
        first.write(b"lost", 0, "lost.png")
    first.close()
    for name, length in lengths.items():
        os.truncate(parts / name, length)
    write(parts, stop, 12).finish()
    assert {path.name: path.read_bytes() for path in parts.iterdir()} == {
        path.name: path.read_bytes() for path in whole.iterdir()
    }


def test_names_that_are_no_keys_get_numbers(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, ["a"], np.zeros(0, np.int64))
    for path in ("a/1.jpg", "a/1.png", "a/x.y.jpg", f"a/{'z' * 120}.jpg"):
        writer.write(IMAGE, 0, path)
    writer.finish()
    source = shard_source(tmp_path)
    assert [source.stored_path(index) for index in range(4)] == [
        "a/1.jpg",
        "000000001.png",
        "000000002.jpg",
        "000000003.jpg",
    ]


def test_a_set_survives_the_round_trip(tmp_path: Path) -> None:
    report = write_set(FACES, tmp_path / "set", kind="shards", workers=1)
    source = open_source(tmp_path / "set")
    assert isinstance(source, ShardSource)
    assert report.images == len(source) == 12
    assert list(source.class_names) == list(FACES.class_names)
    assert source.labels.tolist() == FACES.labels.tolist()
    for index in range(12):
        assert source.encoded(index) == FACES.encoded(index)
        assert np.array_equal(source[index][0], FACES[index][0])


def test_the_index_is_kept_until_the_shard_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 0, 4).finish()
    made: list[str] = []
    make = shards.make_index
    monkeypatch.setattr(shards, "make_index", lambda *given: (made.append(given[2]), make(*given))[1])
    first, second = shard_source(tmp_path), shard_source(tmp_path)
    assert len(made) == 1
    assert np.array_equal(first.offsets, second.offsets)
    write(tmp_path, 0, 5).finish()
    assert len(shard_source(tmp_path)) == 5
    assert len(made) == 2
    for file in (tmp_path / "cache").rglob("*.npz"):
        file.write_bytes(file.read_bytes()[:-40])
    assert len(shard_source(tmp_path)) == 5
    assert len(made) == 3


def test_a_shard_that_changed_under_way_is_no_wrong_image(tmp_path: Path) -> None:
    write(tmp_path, 0, 4).finish()
    source = shard_source(tmp_path)
    os.truncate(tmp_path / "00000.tar", int(source.offsets[3]) + 10)
    with pytest.raises(ImageError, match="changed since indexed"):
        source[3]


def _sum(source: ShardSource, index: int) -> int:
    return int(source[index][0].sum())


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_processes_read_side_by_side(tmp_path: Path, how: str) -> None:
    write(tmp_path, 0, 12).finish()
    source = shard_source(tmp_path)
    expected = [_sum(source, index) for index in range(12)]  # its files are open now
    with multiprocessing.get_context(how).Pool(2) as pool:
        assert pool.starmap(_sum, [(source, index) for index in range(12)] * 4) == expected * 4
    assert pickle.loads(pickle.dumps(source)).encoded(3) == FACES.encoded(3)


def test_names_that_are_cut_off_are_not_taken_for_one_another(tmp_path: Path) -> None:
    files = [(f"p/{'n' * 120}{n}.{end}", data) for n in "12" for end, data in (("png", IMAGE), ("cls", b"1"))]
    (tmp_path / "0.tar").write_bytes(archive_of(files))
    source = shard_source(tmp_path)
    assert source.name(0) != source.name(1)


def test_json_beats_cls(tmp_path: Path) -> None:
    files = [("a.jpg", IMAGE), ("a.json", json.dumps({"identity": "ann"}).encode()), ("a.cls", b"7")]
    (tmp_path / "0.tar").write_bytes(archive_of(files))
    assert list(shard_source(tmp_path).class_names) == ["ann"]
