"""RecordIO: what is written is what is read, by us and by others; anything else ends in an error that says where."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_recordio import parse_idx, parse_rec, parse_set

from faceprint.data import recordio
from faceprint.data.images import ImageError
from faceprint.data.recordio import Record, RecordError, RecordReader, RecordWriter
from faceprint.errors import UserError

MAGIC = struct.pack("<I", 0xCED7230A)
float32s = st.floats(width=32, allow_nan=False)
payloads = st.lists(st.sampled_from([MAGIC, b"\x0a", b"\x23\xd7", b"", b"image"]) | st.binary(max_size=30)).map(
    b"".join
)
labels = float32s | st.lists(float32s, min_size=1, max_size=9)


def write(path: Path, *records: tuple[bytes, float | list[float], int]) -> Path:
    with RecordWriter(path) as writer:
        for data, label, key in records:
            writer.write(data, label, key)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Three records: one plain, one of several parts, one with several labels."""
    parts = b"abcd" + MAGIC + b"efgh" + MAGIC * 2 + b"xy"
    return write(tmp_path / "small.rec", (b"first", 1, 5), (parts, 2, 3), (b"last", [3.0, 0.5], 9))


@given(st.lists(st.tuples(payloads, labels), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[tuple[bytes, float | list[float]]],
    order: random.Random,
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.rec"
    keys = order.sample(range(1 << 40), len(records))
    write(path, *((data, label, key) for (data, label), key in zip(records, keys, strict=True)))
    expected = {
        key: (data, tuple(label) if isinstance(label, list) else (label,))
        for (data, label), key in zip(records, keys, strict=True)
    }
    reader = RecordReader(path)
    assert list(reader) == sorted(keys)
    assert {key: (record.data, record.labels) for key, record in reader.items()} == expected
    assert all(record.id == key for key, record in reader.items())
    assert [key for key, _ in reader.in_file_order()] == keys
    assert {key: (data, label) for key, (label, data) in parse_set(path).items()} == expected
    path.with_suffix(".idx").unlink()
    assert dict(RecordReader(path)) == dict(reader)


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_magics_are_split_where_they_are_aligned(tmp_path: Path, shift: int, count: int) -> None:
    data = b"x" * shift + MAGIC * count + b"tail"
    path = write(tmp_path / "a.rec", (data, 0, 0))
    content = path.read_bytes()
    begun = sum(content[at : at + 4] == MAGIC for at in range(0, len(content), 4))
    assert begun == (1 + count if shift == 0 else 1)
    assert RecordReader(path)[0].data == data


def test_magics_in_the_header(tmp_path: Path) -> None:
    label = struct.unpack("<f", MAGIC)[0]
    path = write(tmp_path / "a.rec", (b"data", label, 0xCED7230A), (MAGIC, [label, label], 1))
    reader = RecordReader(path)
    assert reader[0xCED7230A] == Record(b"data", (label,), 0xCED7230A)
    assert reader[1] == Record(MAGIC, (label, label), 1)
    assert parse_set(path) == {0xCED7230A: ((label,), b"data"), 1: ((label, label), MAGIC)}


@pytest.mark.parametrize("size", [16360, 16384, 16385, 70_001, 3_000_000])
def test_records_of_many_sizes(tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size // 2 & ~3) + MAGIC + random.Random(1).randbytes(size // 2)
    path = write(tmp_path / "a.rec", (b"before", 0, 0), (data, 1, 1), (b"after", 2, 2))
    assert [RecordReader(path)[key].data for key in (0, 1, 2)] == [b"before", data, b"after"]


def test_keys_go_on_from_the_highest(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "a.rec") as writer:
        writer.write(b"a", np.float32(1.5))  # type: ignore[arg-type]
        writer.write(b"b", np.array([1, 2]), key=7)  # type: ignore[arg-type]
        writer.write(b"c", 3)
    reader = RecordReader(tmp_path / "a.rec")
    assert [(key, record.data, record.labels) for key, record in reader.items()] == [
        (0, b"a", (1.5,)),
        (7, b"b", (1.0, 2.0)),
        (8, b"c", (3.0,)),
    ]


def test_mapping(small: Path) -> None:
    reader = RecordReader(small)
    assert (len(reader), list(reader.keys()), 3 in reader, 4 in reader) == (3, [3, 5, 9], True, False)
    for key in (-1, 0, 4, 10, 1 << 62, 1 << 70):
        assert reader.get(key) is None


def test_without_an_index_keys_are_ids_or_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.rec", (b"a", 0, 30), (b"b", 0, 10))
    path.with_suffix(".idx").unlink()
    assert [record.data for record in RecordReader(path).values()] == [b"b", b"a"]
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack("<Q", 10)  # the first id, now the second's too
    path.write_bytes(content)
    assert {key: record.data for key, record in RecordReader(path).items()} == {0: b"a", 1: b"b"}


def write_numbers(path: Path, count: int) -> RecordReader:
    write(path, *((b"%d" % key * (key % 50), key, key) for key in range(count)))
    return RecordReader(path)


def read_number(task: tuple[RecordReader, int]) -> bytes:
    return task[0][task[1]].data


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_readers_in_other_processes(tmp_path: Path, method: str) -> None:
    reader = write_numbers(tmp_path / "a.rec", 300)
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        found = list(pool.map(read_number, ((reader, key) for key in range(300)), chunksize=20))
    assert found == [b"%d" % key * (key % 50) for key in range(300)]
    assert len(pickle.dumps(reader)) < 300


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_reader_shared_by_a_fork(tmp_path: Path) -> None:
    reader = write_numbers(tmp_path / "a.rec", 2000)
    child = os.fork()
    right = all(reader[key].data == b"%d" % key * (key % 50) for key in range(2000))
    if child == 0:
        os._exit(0 if right else 1)
    assert right
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    ("data", "label", "key", "message"),
    [
        (b"", 16777217, 0, "label 16777217 is rounded"),
        (b"", [1, 2.0**31 + 1], 0, "is rounded"),
        (b"", 1e300, 0, "is rounded"),
        (b"", [], 0, "one label, or a list"),
        (b"", [[1, 2]], 0, "one label, or a list"),
        (b"", 0, -1, "key -1"),
        (b"", 0, 1 << 63, "whole numbers"),
        (bytes((1 << 29) - 24), 0, 0, "at most 536870911"),
    ],
)
def test_writer_refuses(tmp_path: Path, data: bytes, label: float, key: int, message: str) -> None:
    with pytest.raises(UserError, match=message), RecordWriter(tmp_path / "a.rec") as writer:
        writer.write(data, label, key)
    assert not os.listdir(tmp_path)


def test_writer_refuses_a_key_twice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="key 5 was written more than once"):
        write(tmp_path / "a.rec", (b"a", 0, 5), (b"b", 0, 4), (b"c", 0, 5))
    assert not os.listdir(tmp_path)


def test_writer_where_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        RecordWriter(tmp_path / "file" / "a.rec")
    with pytest.raises(UserError, match=r"give the \.rec"):
        RecordWriter(tmp_path / "a.idx")


def test_an_error_while_writing_keeps_the_old_set(tmp_path: Path) -> None:
    path = write(tmp_path / "a.rec", (b"old", 0, 0))
    with pytest.raises(UserError), RecordWriter(path) as writer:
        writer.write(b"new", 0, -1)
    assert RecordReader(path)[0].data == b"old"
    assert sorted(os.listdir(tmp_path)) == ["a.idx", "a.rec"]
    write(path, (b"longer", 0, 0), (b"two", 0, 1))
    assert [record.data for record in RecordReader(path).values()] == [b"longer", b"two"]


def test_a_killed_writer_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    program = """
import sys
from faceprint.data.recordio import RecordWriter
with RecordWriter(sys.argv[1]) as writer:
    while True:
        writer.write(bytes(1000), 0)
        print(flush=True)
"""
    command = [sys.executable, "-c", program, tmp_path / "a.rec"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(100):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    names = os.listdir(tmp_path)
    assert names
    assert all(name.startswith(".") and name.endswith(".partial") for name in names)


# What is damaged, or was made to do harm


def read_all(path: Path) -> dict[int, Record]:
    return dict(RecordReader(path))


def record_or_error(reader: RecordReader, key: int) -> Record | str:
    try:
        return reader[key]
    except RecordError as error:
        return str(error)


def test_truncated_anywhere(small: Path) -> None:
    whole, content, index = read_all(small), small.read_bytes(), small.with_suffix(".idx")
    text, ends = index.read_text(), sorted(parse_idx(index).values())[1:]
    for length in range(len(content)):
        small.write_bytes(content[:length])
        index.write_text(text)
        with pytest.raises(UserError, match=r"small\.(rec|idx): (is empty|.*(record|key) .*byte)"):
            read_all(small)
        index.unlink()
        if length in ends:  # nothing says that more should follow
            assert read_all(small) == {key: whole[key] for key in (3, 5) if key == 5 or length == ends[1]}
        else:
            with pytest.raises(UserError, match=r"small\.rec: (is empty|.*record .*byte)"):
                read_all(small)


def test_bits_flipped(small: Path) -> None:
    """A flip in the framing is an error; one in the content changes that content, its label or its id, and no other."""
    whole, content = read_all(small), small.read_bytes()
    errors = 0
    for bit in range(0, 8 * len(content), 3):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        small.write_bytes(flipped)
        reader = RecordReader(small)
        found = {key: record_or_error(reader, key) for key in whole}
        messages = {key: text for key, text in found.items() if isinstance(text, str)}
        assert all(re.search(rf"small\.rec: record {key} at byte \d+: ", text) for key, text in messages.items())
        errors += len(messages)
        changed = {key: record for key, record in found.items() if isinstance(record, Record) and record != whole[key]}
        assert len(changed) <= 1
        for key, record in changed.items():
            assert abs(len(record.data) - len(whole[key].data)) <= 4 * max(len(record.labels), len(whole[key].labels))
    assert errors > 150


@settings(max_examples=200)
@given(st.data())
def test_noise_is_an_error_or_a_record(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    words = st.sampled_from(
        [MAGIC, *(struct.pack("<I", flag << 29 | size) for flag in range(8) for size in (0, 4, 24))]
    )
    noise = data.draw(st.lists(words | st.binary(min_size=4, max_size=4), max_size=40).map(b"".join))
    path = tmp_path_factory.getbasetemp() / "noise.rec"
    path.write_bytes(noise)
    index = data.draw(st.none() | st.binary(max_size=40) | st.lists(st.integers(0, 50)).map(as_index))
    path.with_suffix(".idx").unlink(missing_ok=True)
    if index is not None:
        path.with_suffix(".idx").write_bytes(index)
    try:
        reader = RecordReader(path)
    except UserError as error:
        message = str(error)
    else:
        found = {key: record_or_error(reader, key) for key in reader}
        errors = {key: text for key, text in found.items() if isinstance(text, str)}
        assert all(f"noise.rec: record {key} at byte " in text for key, text in errors.items())
        return
    assert "noise." in message
    assert len(message) < 500


def as_index(numbers: list[int]) -> bytes:
    return b"".join(b"%d\t%d\n" % (key, 4 * number) for key, number in enumerate(numbers))


def part(flag: int, content: bytes, length: int | None = None) -> bytes:
    word = flag << 29 | (len(content) if length is None else length)
    return MAGIC + struct.pack("<I", word) + content + b"\0" * (-len(content) % 4)


HEADER = struct.pack("<IfQQ", 0, 1.0, 7, 0)


def in_one_piece_and_part_by_part(path: Path) -> tuple[list[str], list[str]]:
    """Every record, or the error in its place, with the quick way and without. As text, by which nan is nan."""
    reader = RecordReader(path)
    as_it_is = [repr(record_or_error(reader, key)) for key in reader]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recordio, "_unpack_near", lambda piece: None)
        return as_it_is, [repr(record_or_error(reader, key)) for key in reader]


framed = st.builds(
    lambda flag, labels, label, data, cut: part(flag, (struct.pack("<IfQQ", labels, label, 7, 0) + data)[:cut]),
    st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 7]),
    st.sampled_from([0, 0, 1, 2, 3, 1 << 31, 0xFFFFFFFF]),
    st.floats(width=32),
    payloads | st.sampled_from([16340, 16344, 16352, 16376, 16377]).map(bytes),
    st.sampled_from([None, None, None, 0, 23, 24, 27]),
)
"""Records of one part, and what only looks like one: their labels, their length and what follows may all be wrong."""


@settings(max_examples=150)
@given(st.lists(framed, min_size=1, max_size=6), st.data())
def test_the_quick_way_to_a_record_is_the_thorough_one(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], data: st.DataObject
) -> None:
    """The same bytes, labels and ids, and the same errors, for damaged files and an index that points anywhere."""
    content = bytearray(b"".join(pieces))
    begins = np.cumsum([0, *map(len, pieces)])[:-1].tolist()
    framing = st.builds(lambda begin, by: max(0, begin + by), st.sampled_from(begins), st.integers(-3, 11))
    for at in data.draw(st.lists(framing | st.integers(0, len(content) - 1), max_size=2)):
        content[min(at, len(content) - 1)] ^= 1 << data.draw(st.integers(0, 7))
    length = len(content) - data.draw(st.sampled_from([0, 0, 0, 1, 4, 30]))
    path = tmp_path_factory.getbasetemp() / "quick.rec"
    path.write_bytes(content[: max(length, 4)])
    offsets = {at for at in begins if at < len(content[: max(length, 4)])}
    offsets |= {4 * at for at in data.draw(st.sets(st.integers(0, (max(length, 4) - 1) // 4), max_size=3))}
    keys = data.draw(st.permutations(range(len(offsets))))
    index = b"".join(b"%d\t%d\n" % pair for pair in zip(keys, sorted(offsets), strict=True))
    path.with_suffix(".idx").write_bytes(index)
    quick, thorough = in_one_piece_and_part_by_part(path)
    assert quick == thorough


def test_the_quick_way_is_taken_for_whole_records(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And left where there are parts, or nothing follows: else the test above would compare nothing."""
    taken: list[bool] = []
    quick = recordio._unpack_near

    def count(piece: bytes) -> Record | None:
        taken.append((record := quick(piece)) is not None)
        return record

    monkeypatch.setattr(recordio, "_unpack_near", count)
    assert [record.data for record in RecordReader(small).values()][1] == b"first"
    assert taken == [False, True, False], "keys 3, 5 and 9: in parts, whole, at the end of the file"


HOSTILE = {
    "huge length": part(0, HEADER, (1 << 29) - 1),
    "one byte too long": part(0, HEADER, 25),
    "shorter than its bytes": part(0, HEADER + b"image", 25),
    "middle without first": part(2, HEADER),
    "last without first": part(3, HEADER),
    "first without last": part(1, HEADER),
    "two firsts": part(1, HEADER) + part(1, HEADER) + part(3, b""),
    "whole in the middle": part(1, HEADER) + part(0, HEADER),
    "unknown flag": part(5, HEADER),
    "no magic": b"\0" * 40,
    "wrong byte order": MAGIC[::-1] + b"\0\0\0\x18" + HEADER,
    "too short for a header": part(0, HEADER[:23]),
    "empty payload": part(0, b""),
    "four thousand million labels": part(0, struct.pack("<IfQQ", 0xFFFFFFFF, 1.0, 7, 0)),
    "one label too many": part(0, struct.pack("<IfQQff", 3, 1.0, 7, 0, 1, 2)),
    "padding that is not zero": part(0, HEADER + b"a")[:-1] + b"\1",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_records_between_others(tmp_path: Path, name: str) -> None:
    """Neither way gives it, and neither gives the one before it where it is no beginning of a record."""
    good = part(0, HEADER + b"good")
    (tmp_path / "a.rec").write_bytes(good + HOSTILE[name] + good + good)
    ends = [0, len(good), len(good + HOSTILE[name])]
    (tmp_path / "a.idx").write_text("".join(f"{key}\t{at}\n" for key, at in enumerate(ends)))
    quick, thorough = in_one_piece_and_part_by_part(tmp_path / "a.rec")
    assert quick == thorough
    assert f"record 1 at byte {len(good)}" in quick[1]
    assert quick[2].startswith("Record(data=b'good'")


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", ["index", "scan"])
def test_hostile_record(tmp_path: Path, name: str, place: str) -> None:
    path = tmp_path / "a.rec"
    path.write_bytes(part(0, HEADER + b"good") + HOSTILE[name])
    if place == "index":
        path.with_suffix(".idx").write_text("4\t0\n6\t36\n")
    with pytest.raises(RecordError, match=r"a\.rec: record .* at byte \d+: ") as error:
        read_all(path)
    assert isinstance(error.value, ImageError)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("", "lists no records"),
        ("5\t0\n3\n", r"a\.idx:2: expected"),
        ("5\t0\n3\t1\t2\n", r"a\.idx:2: expected"),
        ("5\t0\n\n", r"a\.idx:2: expected"),
        ("5 0\n", r"a\.idx:1: expected"),
        ("5\t-8\n", r"a\.idx:1: expected"),
        ("5\t0x10\n", r"a\.idx:1: expected"),
        ("5\t1e3\n", r"a\.idx:1: expected"),
        ("5\t0\n6\t\n", r"a\.idx:2: expected"),
        ("5\t" + "9" * 5000 + "\n", r"a\.idx:1: expected"),
        ("5\t" + "9" * 18 + "\n", "byte offset 999999999999999999 is not"),
        ("5\t1\n", "key 5: byte offset 1 is not a multiple of 4"),
        ("5\t0\n6\t400\n", "key 6: byte offset 400 is not"),
        ("5\t0\n6\t0\n", "byte offset 0 is listed more than once"),
        ("5\t0\n5\t36\n", "key 5 is listed more than once"),
        ("\xff\t0\n", r"a\.idx:1: expected"),
        ("1" * 3_000_000, r"a\.idx:1: expected"),
    ],
)
def test_hostile_index(tmp_path: Path, index: str, message: str) -> None:
    path = write(tmp_path / "a.rec", (b"data", 0, 5), (b"more", 0, 6))
    path.with_suffix(".idx").write_text(index, encoding="latin-1")
    with pytest.raises(UserError, match=message) as error:
        RecordReader(path)
    assert len(str(error.value)) < 500


def test_an_index_that_points_into_records(tmp_path: Path) -> None:
    """Only where a part begins stands an aligned magic: any other place is an error, a later part too."""
    data = b"abcd" + MAGIC + b"efgh"
    path = write(tmp_path / "a.rec", (data, 0, 0), (b"more", 1, 1))
    begins = set(parse_rec(path))
    for offset in set(range(0, path.stat().st_size, 4)) - begins:
        path.with_suffix(".idx").write_text(f"0\t{offset}\n")
        with pytest.raises(RecordError, match=f"record 0 at byte {offset}: "):
            RecordReader(path)[0]


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty.rec").write_bytes(b"")
    os.mkfifo(tmp_path / "fifo.rec")
    for name, message in [("empty.rec", "is empty"), ("fifo.rec", "no such file"), ("absent.rec", "no such file")]:
        with pytest.raises(UserError, match=message):
            RecordReader(tmp_path / name)
    with pytest.raises(UserError, match="no such file"):
        RecordReader(tmp_path)


def test_what_a_disk_refuses_is_an_unreadable_record(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = RecordReader(small)
    monkeypatch.setattr(recordio, "read_at", Mock(side_effect=OSError(5, "Input/output error")))
    with pytest.raises(RecordError, match=r"record [0-9]+ cannot be read \(Input/output error\)"):
        reader.at(0)


def test_index_of_lines_in_any_form(tmp_path: Path) -> None:
    path = write(tmp_path / "a.rec", (b"a", 0, 700), (b"b", 0, 0), (b"c", 0, 12345678901))
    text = path.with_suffix(".idx").read_bytes()
    for form in (text.replace(b"\n", b"\r\n"), text[:-1], b"".join(reversed(text.splitlines(True)))):
        path.with_suffix(".idx").write_bytes(form)
        assert {key: record.data for key, record in RecordReader(path).items()} == {
            700: b"a",
            0: b"b",
            12345678901: b"c",
        }


def test_a_long_index_is_read_in_pieces(tmp_path: Path) -> None:
    reader = write_index(tmp_path / "a.rec", 200_000, lambda key: key * 3 % 200_003)
    assert reader.index.keys.dtype == np.uint32
    assert reader.index.offsets(slice(None)).tolist() == [
        4 * number
        for number, _ in sorted(enumerate(key * 3 % 200_003 for key in range(200_000)), key=lambda row: row[1])
    ]


def write_index(path: Path, count: int, key: Callable[[int], int]) -> RecordReader:
    with path.open("wb") as file:
        file.truncate(4 * count)
    path.with_suffix(".idx").write_text("".join(f"{key(number)}\t{4 * number}\n" for number in range(count)))
    return RecordReader(path)


def test_time_grows_with_the_file(tmp_path: Path) -> None:
    """A megabyte of magics alone, each a part of its own."""
    path = write(tmp_path / "a.rec", (MAGIC * (1 << 18), 0, 0))
    begin = time.perf_counter()
    assert RecordReader(path)[0].data == MAGIC * (1 << 18)
    assert time.perf_counter() - begin < 10


def test_a_file_of_hundreds_of_gigabytes(tmp_path: Path) -> None:
    """Mostly a hole: records behind 16 GiB, where 32 bits of words end, and behind 700 GB."""
    path = write(tmp_path / "a.rec", (b"first", 0, 0))
    first, far = path.read_bytes(), [1 << 34, (1 << 34) + 40, 700_000_000_000]
    with path.open("r+b") as file:
        for key, offset in enumerate(far, start=1):
            file.seek(offset)
            file.write(first[:16] + struct.pack("<Q", key) + first[24:])
    path.with_suffix(".idx").write_text("".join(f"{key}\t{offset}\n" for key, offset in enumerate([0, *far])))
    reader = RecordReader(path)
    assert [reader.index.offset(row) for row in range(4)] == [0, *far]
    assert reader.index.offsets(np.arange(4)).tolist() == [0, *far]
    assert [reader[key].id for key in (1, 3)] == [1, 3]
    with pytest.raises(RecordError, match="record 0 at byte 40: begins with 00000000"):
        reader[0]  # a hole follows it, not a record


@pytest.mark.real
@pytest.mark.parametrize(("name", "count"), [("insightface", 109), ("im2rec", 96)])
def test_files_of_mxnet(test_data: Path, tmp_path: Path, name: str, count: int) -> None:
    path = test_data / "data" / "mxnet" / name / "train.rec"
    expected = parse_set(path)
    reader = RecordReader(path)
    assert len(reader) == count
    assert {key: (record.labels, record.data) for key, record in reader.items()} == expected
    assert all(record.id == key for key, record in reader.items())
    with RecordWriter(tmp_path / "again.rec") as writer:
        for key, record in reader.in_file_order():
            writer.write(record.data, record.labels if len(record.labels) > 1 else record.labels[0], key)
    assert (tmp_path / "again.rec").read_bytes() == path.read_bytes()
    assert (tmp_path / "again.idx").read_bytes() == path.with_suffix(".idx").read_bytes()
    (tmp_path / "again.idx").unlink()
    assert dict(RecordReader(tmp_path / "again.rec")) == dict(reader)
