"""Sets are written byte for byte, whole or not at all, and a killed run goes on to the same bytes."""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
import tarfile
from collections.abc import Callable
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from faceprint.data.files import FileSource
from faceprint.data.formats import FORMATS, open_source
from faceprint.data.rearrange import shuffled
from faceprint.data.source import Source, Subset
from faceprint.data.verify_set import verify_set
from faceprint.data.write_set import write_set
from faceprint.errors import UserError

sys.path.insert(0, str(Path(__file__).parent))
from blobs import Blobs, blobs

WRITABLE = [name for name, row in FORMATS.items() if row.create]
# Where a job of 2,500 images is killed: the function whose n-th call ends it.
PLACES = [("write", 1), ("write", 1025), ("checkpoint", 2), ("finish", 1)]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kill_at(owner: object, name: str, nth: int) -> None:
    """Let the n-th call of `owner.name` end this process as `kill -9` does."""
    original, calls = getattr(owner, name), iter(range(1, sys.maxsize))

    def replacement(*arguments: object) -> object:
        if next(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    setattr(owner, name, replacement)


def in_child(job: Callable[[], object]) -> int:
    process = get_context("fork").Process(target=job)
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def labelled(source: Source) -> list[tuple[str, bytes]]:
    return sorted((source.class_names[label], source.encoded(i)) for i, label in enumerate(source.labels.tolist()))


@pytest.mark.parametrize("kind", WRITABLE)
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_killed_run_goes_on_to_the_same_bytes(kind: str, place: tuple[str, int], tmp_path: Path) -> None:
    source = blobs(2500, broken=(3, 1500))
    write_set(source, tmp_path / "whole", kind=kind, max_unreadable=2)
    create = FORMATS[kind].create
    assert isinstance(create, type)

    def job() -> None:
        kill_at(create, *place)
        write_set(source, tmp_path / "killed", kind=kind, max_unreadable=2)

    assert in_child(job) == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    with pytest.raises(UserError, match="is not finished"):
        open_source(tmp_path / "killed.partial")
    report = write_set(source, tmp_path / "killed", kind=kind, max_unreadable=2)
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    assert (report.images, [name for name, _ in report.unreadable]) == (2498, ["blob 3", "blob 1500"])
    assert report.resumed_from % 1024 == 0 or report.resumed_from == 2498
    assert not (tmp_path / "killed.partial").exists()


@pytest.mark.parametrize(
    ("place", "resumed"), [(("write", 1025), 1024), (("write", 2400), 2048), (("finish", 1), 2500)]
)
def test_a_record_set_goes_on_behind_the_last_thousand(place: tuple[str, int], resumed: int, tmp_path: Path) -> None:
    def job() -> None:
        kill_at(FORMATS["record"].create, *place)
        write_set(blobs(2500), tmp_path / "a.rec", kind="record")

    assert in_child(job) == -signal.SIGKILL
    assert write_set(blobs(2500), tmp_path / "a.rec", kind="record").resumed_from == resumed


@pytest.mark.parametrize("nth", [1, 2, 4, 5])
def test_killed_while_the_files_take_their_names(nth: int, tmp_path: Path) -> None:
    def job() -> None:
        kill_at(os, "rename", nth)
        write_set(blobs(20), tmp_path / "a.rec", kind="record")

    assert in_child(job) == -signal.SIGKILL
    assert not (tmp_path / "a.rec").exists()
    assert write_set(blobs(20), tmp_path / "a.rec", kind="record").resumed_from == 20
    assert verify_set(tmp_path / "a.rec").same
    names = ["a.classes.txt", "a.idx", "a.lst", "a.manifest.json", "a.rec"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize("kind", WRITABLE)
def test_a_full_disk_is_an_error_and_the_same_call_goes_on(kind: str, tmp_path: Path) -> None:
    source = blobs(2500)

    def job() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (280, resource.RLIM_INFINITY))
        try:
            write_set(source, tmp_path / "out", kind=kind)
        except UserError as error:
            os._exit(7 if "File too large" in str(error) and "repeat the command" in str(error) else 8)

    assert in_child(job) == 7
    assert not (tmp_path / "out").exists()
    write_set(source, tmp_path / "out", kind=kind)
    assert labelled(open_source(tmp_path / "out")) == labelled(source)


@pytest.mark.parametrize("first", WRITABLE)
@pytest.mark.parametrize("second", WRITABLE)
def test_every_pair_of_formats_keeps_bytes_identities_and_names(first: str, second: str, tmp_path: Path) -> None:
    source = shuffled(blobs(60), seed=4)
    one = write_set(source, tmp_path / "one", kind=first)
    two = write_set(open_source(tmp_path / "one"), tmp_path / "two", kind=second)
    three = write_set(open_source(tmp_path / "two"), tmp_path / "three", kind="folder")
    assert labelled(open_source(tmp_path / "two")) == labelled(source)
    assert one.content == two.content == three.content
    names = {path.relative_to(tmp_path / "three").as_posix() for path in (tmp_path / "three").rglob("*.jpg")}
    assert names == {f"Person {p}/Person {p}_{n:04d}.jpg" for p in range(10) for n in range(1, 7)}
    assert verify_set(tmp_path / "two").same


@pytest.mark.parametrize("kind", WRITABLE)
def test_names_that_are_no_unicode(kind: str, tmp_path: Path) -> None:
    """Bytes that are not UTF-8, as names of files may be, and half a UTF-16 pair, as JSON can spell one."""
    source = FileSource(
        tmp_path / "from",
        [os.fsdecode(b"\xe9\xff/1.jpg"), os.fsdecode(b"b/\xfe.jpg"), "c/3.jpg"],
        np.arange(3),
        [os.fsdecode(b"\xe9\xff"), "b", "\ud800"],
    )
    for number, path in enumerate(source.paths):
        (source.root / path).parent.mkdir(parents=True)
        (source.root / path).write_bytes(b"image %d" % number)
    write_set(source, tmp_path / "to", kind=kind)
    written = open_source(tmp_path / "to")
    assert labelled(written) == labelled(
        Subset(source, np.arange(3), source.labels, [*source.class_names[:2], "%D800"])
    )
    assert verify_set(tmp_path / "to").same


def test_the_checksum_by_its_definition(tmp_path: Path) -> None:
    source = blobs(30, grouped=False)
    digests = [
        sha256(source.class_names[label].encode() + b"\0" + sha256(source.encoded(index)).digest()).digest()
        for index, label in enumerate(source.labels)
    ]
    report = write_set(source, tmp_path / "a", kind="record")
    assert int(report.content, 16) == sum(int.from_bytes(digest, "big") for digest in digests) % 2**256
    manifest = json.loads((tmp_path / "a" / "train.manifest.json").read_text())
    assert manifest["parts"] == [sha256(b"".join(digests)).hexdigest()]


def test_a_changed_byte_is_found_and_its_place_named(tmp_path: Path) -> None:
    write_set(blobs(2500), tmp_path / "a.rec", kind="record")
    offsets = dict(map(int, line.split("\t")) for line in (tmp_path / "a.idx").read_text().splitlines())
    content = bytearray((tmp_path / "a.rec").read_bytes())
    content[offsets[1030] + 8 + 24] ^= 1
    (tmp_path / "a.rec").write_bytes(content)
    report = verify_set(tmp_path / "a.rec")
    assert (report.same, report.differing) == (False, ((1024, 2047),))


def test_verify_sees_a_missing_image_of_a_folder(tmp_path: Path) -> None:
    write_set(blobs(30), tmp_path / "a", kind="folder")
    (tmp_path / "a" / "Person 3" / "Person 3_0001.jpg").unlink()
    report = verify_set(tmp_path / "a")
    assert (report.same, report.images, report.expected_images) == (False, 29, 30)


def test_unreadable_images_are_listed_and_must_be_allowed(tmp_path: Path) -> None:
    source = blobs(40, broken=(5, 6))
    with pytest.raises(UserError, match=r"2 of 40 images cannot be read, and 1 may be left out .*--max-unreadable 2"):
        write_set(source, tmp_path / "a", kind="record", max_unreadable=1)
    listed = json.loads((tmp_path / "a.partial" / "unreadable.json").read_text())["unreadable"]
    assert [name for _, name, _ in listed] == ["blob 5", "blob 6"]
    report = write_set(source, tmp_path / "a", kind="record", max_unreadable=2)
    assert (report.images, report.resumed_from, len(report.unreadable)) == (38, 38, 2)
    assert "unreadable.json" not in files_of(tmp_path / "a")


def test_a_source_that_fails_throughout_is_given_up_early(tmp_path: Path) -> None:
    asked: list[int] = []
    source = blobs(5000, broken=tuple(range(5000)))
    with pytest.raises(UserError, match=r"1,001 of 1,001 images cannot be read.*unreadable\.json\. To read them again"):
        write_set(source, tmp_path / "a", kind="record", max_unreadable=0, progress=lambda done, _: asked.append(done))
    assert max(asked) < 1100


@pytest.mark.parametrize("workers", [1, 7])
def test_the_order_is_the_sources_with_any_number_of_threads(workers: int, tmp_path: Path) -> None:
    source = blobs(700, grouped=False)
    write_set(source, tmp_path / "a.rec", kind="record", workers=workers)
    read = open_source(tmp_path / "a.rec")
    assert [read.encoded(index) for index in range(700)] == [source.encoded(index) for index in range(700)]
    assert np.array_equal(read.labels, source.labels)
    assert list(read.class_names) == list(source.class_names)


def test_what_is_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").write_text("")
    (tmp_path / "b.partial").mkdir()
    (tmp_path / "b.partial" / "mine").write_text("")
    (tmp_path / "property").write_text("1,2,3")
    (tmp_path / "d.classes.txt").write_text("")
    for name, kind, message in (
        ("a", "record", "exists"),
        ("b", "record", "was not made by this command"),
        ("c.rec", "record", "property: exists"),
        ("d.parquet", "parquet", r"d\.classes\.txt: exists"),
    ):
        with pytest.raises(UserError, match=message):
            write_set(blobs(3), tmp_path / name, kind=kind)
    assert (tmp_path / "a" / "mine").exists()
    assert (tmp_path / "b.partial" / "mine").exists()
    assert not (tmp_path / "c.rec.partial").exists(), "found before anything is written"
    assert not (tmp_path / "d.parquet.partial").exists()


def test_another_job_does_not_go_on_with_this_one(tmp_path: Path) -> None:
    source = blobs(20, broken=(1,))
    with pytest.raises(UserError, match="cannot be read"):
        write_set(source, tmp_path / "a", kind="record")
    for other, kind in ((blobs(21), "record"), (source, "folder"), (blobs(20, grouped=False), "record")):
        with pytest.raises(UserError, match="begun from another source or in another format"):
            write_set(other, tmp_path / "a", kind=kind)


def test_two_runs_at_once_are_kept_apart(tmp_path: Path) -> None:
    def meddle(done: int, total: int) -> None:
        with pytest.raises(UserError, match="another process is writing it"):
            write_set(blobs(10), tmp_path / "a", kind="record")

    write_set(blobs(10), tmp_path / "a", kind="record", progress=meddle)
    assert verify_set(tmp_path / "a").same


def test_an_identity_whose_images_are_all_unreadable_keeps_its_label(tmp_path: Path) -> None:
    source = blobs(20, broken=(4, 5))
    write_set(source, tmp_path / "a", kind="record", max_unreadable=2)
    assert verify_set(tmp_path / "a").same
    assert labelled(open_source(tmp_path / "a"))[4][0] == "Person 3"


def test_formats_that_are_only_read_and_wrong_counts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="read only; written are"):
        write_set(blobs(3), tmp_path / "a", kind="list")
    with pytest.raises(UserError, match="workers 0"):
        write_set(blobs(3), tmp_path / "a", kind="folder", workers=0)
    with pytest.raises(UserError, match="no image to write"):
        write_set(Blobs(np.zeros(0, np.int64), []), tmp_path / "a", kind="folder")
    with pytest.raises(UserError, match="2 of 2 images cannot be read, and 9 may be left out"):
        write_set(blobs(2, broken=(0, 1)), tmp_path / "a", kind="folder", max_unreadable=9)
    with pytest.raises(UserError, match="has no manifest"):
        verify_set(tmp_path)


def records(path: Path) -> dict[int, tuple[tuple[float, ...], bytes]]:
    """Labels and data by key, read by the layout alone."""
    content, found = path.read_bytes(), {}
    for line in path.with_suffix(".idx").read_text().splitlines():
        key, at = map(int, line.split("\t"))
        magic, length = struct.unpack_from("<II", content, at)
        assert magic == 0xCED7230A
        assert length >> 29 == 0, "a record in one part"
        flag, label, number, _ = struct.unpack_from("<IfQQ", content, at + 8)
        assert number == key
        labels = struct.unpack_from(f"<{flag}f", content, at + 32) if flag else (label,)
        found[key] = labels, content[at + 32 + 4 * flag : at + 8 + length]
    return found


def test_record_sets_by_an_independent_reader(tmp_path: Path) -> None:
    grouped, mixed = blobs(50), blobs(50, grouped=False)
    write_set(grouped, tmp_path / "a", kind="record")
    write_set(mixed, tmp_path / "b", kind="record")
    found = records(tmp_path / "a" / "train.rec")
    assert found[0] == ((51.0, 61.0), b"")
    for person in range(10):
        begin, end = map(int, found[51 + person][0])
        members = [(grouped.encoded(i), float(person)) for i in np.flatnonzero(grouped.labels == person)]
        assert [(found[key][1], *found[key][0]) for key in range(begin, end)] == members
    assert len(found) == 61
    plain = records(tmp_path / "b" / "train.rec")
    assert plain == {i + 1: ((float(mixed.labels[i]),), mixed.encoded(i)) for i in range(50)}
    lines = [line.split("\t") for line in (tmp_path / "b" / "train.lst").read_text().splitlines()]
    assert [(int(key), float(label)) for key, label, _ in lines] == [(i + 1, mixed.labels[i]) for i in range(50)]


def test_shards_by_the_standard_library(tmp_path: Path) -> None:
    source = blobs(40, grouped=False)
    write_set(source, tmp_path / "a", kind="shards")
    with tarfile.open(tmp_path / "a" / "00000.tar") as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive.getmembers()}  # type: ignore[union-attr]
    read = open_source(tmp_path / "a")
    keys = [read.stored_path(index).removesuffix(".jpg") for index in range(40)]
    assert keys[7] == "Person 9/Person 9_0001"
    expected = {f"{key}.jpg": source.encoded(i) for i, key in enumerate(keys)}
    assert members == expected | {f"{key}.cls": b"%d" % source.labels[i] for i, key in enumerate(keys)}


@pytest.mark.parametrize("kind", ["shards", "parquet"])
def test_many_files_are_one_set(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faceprint.data.shards.SHARD_IMAGES", 1024)
    monkeypatch.setattr("faceprint.data.parquet.FILE_IMAGES", 1024)
    source = blobs(2500)
    write_set(source, tmp_path / "whole", kind=kind)
    for nth in (1026, 2049):

        def job(nth: int = nth) -> None:
            kill_at(FORMATS[kind].create, "write", nth)
            write_set(source, tmp_path / f"killed {nth}", kind=kind)

        assert in_child(job) == -signal.SIGKILL
        assert write_set(source, tmp_path / f"killed {nth}", kind=kind).resumed_from == (nth - 1) // 1024 * 1024
        assert files_of(tmp_path / f"killed {nth}") == files_of(tmp_path / "whole")
    assert verify_set(tmp_path / "whole").same
    assert len([*(tmp_path / "whole").glob("*.tar"), *(tmp_path / "whole").glob("*.parquet")]) == 3
    read = open_source(tmp_path / "whole")
    assert [read.stored_path(i) for i in (0, 1024, 2499)] == [
        f"Person {p}/Person {p}_{n:04d}.jpg" for p, n in ((0, 1), (4, 25), (9, 250))
    ]


@pytest.mark.parametrize("kind", [name for name in WRITABLE if FORMATS[name].suffix])
def test_a_set_in_one_file(kind: str, tmp_path: Path) -> None:
    source = blobs(1100)
    path = tmp_path / f"set{FORMATS[kind].suffix}"

    def job() -> None:
        kill_at(FORMATS[kind].create, "write", 1050)
        write_set(source, path, kind=kind)

    assert in_child(job) == -signal.SIGKILL
    assert not path.exists()
    assert write_set(source, path, kind=kind).resumed_from == (0 if kind == "parquet" else 1024)
    assert verify_set(path).same
    assert labelled(open_source(path)) == labelled(source)
