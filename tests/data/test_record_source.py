"""Labelled sets in record files: both flavours told apart, labels right by any way, nothing wrong taken in silence."""

from __future__ import annotations

import io
import os
import pickle
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from plain_recordio import parse_set

from faceprint.data import array_cache, record_source
from faceprint.data.class_map import CLASS_MAP, beside, write_class_map
from faceprint.data.formats import open_source
from faceprint.data.images import ImageError, decode_image
from faceprint.data.record_files import (
    ListEntry,
    Property,
    format_lst,
    read_lst,
    read_property,
    write_property,
)
from faceprint.data.record_source import RecordSource
from faceprint.data.recordio import RecordError, RecordReader, RecordWriter
from faceprint.data.write_records import RecordSetWriter
from faceprint.errors import UserError
from faceprint.recipe import load_config
from faceprint.training.sources import build_source


def image(number: int) -> bytes:
    return cv2.imencode(".png", np.full((6, 5, 3), number % 256, np.uint8))[1].tobytes()


def write_set(path: Path, labels: Sequence[int], names: Sequence[str]) -> RecordSource:
    file = path if path.suffix else path / "train.rec"
    file.parent.mkdir(exist_ok=True)
    writer = RecordSetWriter(file, names, np.zeros(0, np.int64))
    for number, label in enumerate(labels):
        writer.write(image(number), label, f"some folder/{number}.png")
    writer.finish()
    write_class_map(file, names)
    return RecordSource(path)


def write_plain(path: Path, *records: tuple[int, float | list[float]]) -> Path:
    with RecordWriter(path) as writer:
        for key, label in records:
            writer.write(image(key % 256), label, key)
    return path


def without_cache_or_list(path: Path) -> None:
    for suffix in (".rec.labels", ".rec.index", ".lst"):
        path.with_suffix(suffix).unlink(missing_ok=True)


GROUPED = [2, 2, 2, 0, 1, 1]
MIXED = [2, 0, 2, 1, 1, 2]


@pytest.mark.parametrize("labels", [GROUPED, MIXED])
def test_what_is_written_is_read(tmp_path: Path, labels: list[int]) -> None:
    source = write_set(tmp_path / "set", labels, ["Ann Lee", "Bö", "c"])
    assert source.labels.dtype == np.int64
    assert source.labels.tolist() == labels
    assert list(source.class_names) == ["Ann Lee", "Bö", "c"]
    assert [source.encoded(index) for index in range(len(source))] == [image(number) for number in range(6)]
    assert [(int(pixels[0, 0, 0]), label) for pixels, label in map(source.__getitem__, range(6))] == [
        *enumerate(labels)
    ]
    assert source.name(2) == f"{tmp_path / 'set' / 'train.rec'}: record 3"
    assert read_property(tmp_path / "set") == Property(3, 6, 5)
    again = pickle.loads(pickle.dumps(source))
    assert len(pickle.dumps(source)) < 300  # of any set: workers are told its path, not its index
    assert again.labels.tolist() == labels
    assert again.encoded(5) == source.encoded(5)


def test_grouped_images_make_the_insightface_flavour(tmp_path: Path) -> None:
    write_set(tmp_path / "a.rec", GROUPED, ["x", "y", "z"])
    records = parse_set(tmp_path / "a.rec")
    assert {key: labels for key, (labels, data) in records.items() if not data} == {
        0: (7.0, 10.0),
        7: (4.0, 5.0),
        8: (5.0, 7.0),
        9: (1.0, 4.0),
    }
    assert [records[key] for key in range(1, 7)] == [((label,), image(i)) for i, label in enumerate(GROUPED)]
    assert sorted(os.listdir(tmp_path)) == ["a.classes.txt", "a.idx", "a.lst", "a.rec", "property"]
    assert (tmp_path / "property").read_text() == "3,6,5"


def test_mixed_images_make_the_im2rec_flavour(tmp_path: Path) -> None:
    write_set(tmp_path / "a.rec", MIXED, ["x", "y", "z"])
    records = parse_set(tmp_path / "a.rec")
    assert records == {key: ((label,), image(key - 1)) for key, label in enumerate(MIXED, start=1)}
    entries = [line.split("\t") for line in (tmp_path / "a.lst").read_text().splitlines()]
    assert [(int(key), float(label), path) for key, label, path in entries] == [
        (key, label, f"some folder/{key - 1}.png") for key, label in enumerate(MIXED, start=1)
    ]


def test_identities_without_images_and_with_several_ranges(tmp_path: Path) -> None:
    source = write_set(tmp_path / "a.rec", [3, 3, 1], ["a", "b", "c", "d"])
    assert list(source.class_names) == ["b", "d"]
    assert source.labels.tolist() == [1, 1, 0]
    with RecordWriter(tmp_path / "b.rec") as writer:  # keys 5 and 7 are one person
        for key, label in [(1, 9), (2, 9), (3, 4), (4, 9)]:
            writer.write(image(key), label, key)
        for key, ends in [(5, (1, 3)), (6, (3, 4)), (7, (4, 5)), (0, (5, 8))]:
            writer.write(b"", ends, key)
    source = RecordSource(tmp_path / "b.rec")
    assert (list(source.class_names), source.labels.tolist()) == (["4", "9"], [1, 1, 0, 1])


@pytest.mark.parametrize("way", ["list", "headers", "scan"])
def test_im2rec_labels_by_any_way(tmp_path: Path, way: str) -> None:
    path = write_plain(tmp_path / "a.rec", (70, 5), (3, -2), (11, [5, 0.5]), (0, 1000))
    if way == "list":
        entries = [(3, -2.0), (11, 5.0), (0, 1000.0), (70, 5.0), (99, 4.0)]
        path.with_suffix(".lst").write_text(
            "".join(format_lst(ListEntry(key, (label,), "x")) for key, label in entries)
        )
    if way == "scan":
        path.with_suffix(".idx").unlink()
    source = RecordSource(path)
    assert source.labels.tolist() == [2, 0, 1, 1]
    assert list(source.class_names) == ["-2", "5", "1000"]
    assert list(source.class_names[1:]) == ["5", "1000"]
    assert [source[index][1] for index in range(4)] == [2, 0, 1, 1]


@pytest.mark.parametrize("flavour", ["insightface", "im2rec"])
def test_labels_of_several_batches_and_from_the_cache(
    tmp_path: Path, flavour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_cache, "MIN_LENGTH", 0)
    monkeypatch.setattr(record_source, "_ROWS_AT_ONCE", 7)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, 300) if flavour == "im2rec" else np.sort(rng.integers(0, 20, 300))
    path = tmp_path / "a.rec"
    source = write_set(path, labels.tolist(), [str(number) for number in range(20)])
    assert (0 in source.reader) == (flavour == "insightface")
    for _ in range(2):
        assert source.labels.tolist() == labels.tolist()
        assert path.with_name("a.rec.labels").exists()
        monkeypatch.setattr(record_source, "first_labels", None)  # from now on they come from the cache
        source = RecordSource(path)
    monkeypatch.undo()
    without_cache_or_list(path)
    assert RecordSource(path).labels.tolist() == labels.tolist()


@pytest.mark.parametrize("kind", ["index", "labels"])
def test_a_cache_made_to_harm_is_refused(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its checksums are right, what it says is not."""
    monkeypatch.setattr(array_cache, "MIN_LENGTH", 0)
    path = tmp_path / "a.rec"
    write_set(path, MIXED, ["x", "y", "z"])
    origins = [path, path.with_suffix(".idx"), path.with_suffix(".lst")][: 2 if kind == "index" else 3]
    numbers = np.arange(6, dtype=np.uint32)
    odd, far, values = np.full(5, 9, np.uint8), np.full(6, 255, np.uint8), np.arange(3)
    for arrays in (
        [
            {"keys": numbers},
            {"keys": numbers, "low": numbers, "high": odd},
            {"keys": numbers, "low": numbers, "high": far},
        ]
        if kind == "index"
        else [{"labels": numbers}, {"labels": numbers[1:], "values": values}, {"labels": numbers, "values": values}]
    ):
        path.with_name(f"a.rec.{kind}").unlink()
        array_cache.cached_arrays(path.with_name(f"a.rec.{kind}"), origins, lambda made=arrays: made)
        with pytest.raises(UserError, match=r"a\.rec"):
            assert len(RecordSource(path).labels) == 6


def test_identity_records_that_lie_are_not_believed(tmp_path: Path) -> None:
    for number, ranges in enumerate([[(1, 3), (4, 5)], [(1, 4), (3, 5)], [(1, 3)], [(1, 2.5), (2.5, 5)], [(0, 5)]]):
        path = tmp_path / f"{number}.rec"
        with RecordWriter(path) as writer:
            for key, label in [(1, 8), (2, 8), (3, 2), (4, 2)]:
                writer.write(image(key), label, key)
            for key, ends in enumerate(ranges, start=5):
                writer.write(b"", ends, key)
            writer.write(b"", (5, 5 + len(ranges)), 0)
        assert RecordSource(path).labels.tolist() == [1, 1, 0, 0]


def test_an_image_of_another_label_than_its_range(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    with RecordWriter(path) as writer:
        for key, label in [(1, 8), (2, 3), (3, 2)]:
            writer.write(image(key), label, key)
        for key, ends in [(4, (1, 3)), (5, (3, 4)), (0, (4, 6))]:
            writer.write(b"", ends, key)
    source = RecordSource(path)
    assert [source[index][1] for index in (0, 2)] == [1, 0]
    with pytest.raises(ImageError, match=r"a\.rec: record 2: has the label 3, the index says 8"):
        source[1]


def test_a_list_that_lies(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "a.rec", (1, 5), (2, 6))
    path.with_suffix(".lst").write_text("1\t5\tx\n2\t5\ty\n")
    source = RecordSource(path)
    assert source[0][1] == 0
    with pytest.raises(ImageError, match="record 2: has the label 6, the index says 5"):
        source[1]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (0.5, "record 7 has the label 0.5, which is no whole number"),
        (float("nan"), "nan, which is no whole number"),
        (float("inf"), "inf, which is no whole number"),
        (2.0**24, "cannot be told from its neighbours"),
        (-(2.0**30), "cannot be told from its neighbours"),
    ],
)
def test_labels_that_are_no_identities(tmp_path: Path, label: float, message: str) -> None:
    path = write_plain(tmp_path / "a.rec", (3, 1), (7, label))
    with pytest.raises(UserError, match=message):
        RecordSource(path)


def test_more_keys_than_float32_counts(tmp_path: Path) -> None:
    """Record 0 claims images up to 2^24 + 2: there the boundary, 2^24 + 1, was rounded."""
    boundary = (1 << 24) + 1
    path = tmp_path / "a.rec"
    with RecordWriter(path) as writer:
        for key, label in [(1, 8), (boundary - 2, 8), (boundary - 1, 3)]:
            writer.write(image(key % 256), label, key)
        writer.write(b"", (1, 1 << 24), boundary)
        writer.write(b"", (1 << 24, 1 << 24), boundary + 1)
        writer.write(b"", (boundary + 1, boundary + 3), 0)
    source = RecordSource(path)
    assert source.labels.tolist() == [1, 1, 0]
    assert source.name(2).endswith(f"record {boundary - 1}")


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "a.rec", (1, 5), (2, 6), (3, 6))
    source = RecordSource(path)
    content = bytearray(path.read_bytes())
    at = source.reader.index.offset(1)
    content[at] ^= 1
    path.write_bytes(content)
    for read in (lambda: RecordSource(path), lambda: source[1]):
        with pytest.raises(RecordError, match=f"a.rec: record 2 at byte {at}: "):
            read()


def test_folders_and_files_are_recognised(tmp_path: Path) -> None:
    write_set(tmp_path / "set", GROUPED, ["a", "b", "c"])
    write_set(tmp_path / "other.rec", GROUPED, ["a", "b", "c"])
    for path in (tmp_path / "set", tmp_path / "set" / "train.rec", tmp_path / "other.rec"):
        assert isinstance(open_source(path), RecordSource)
    with pytest.raises(UserError, match="no such file"):
        RecordSource(tmp_path)


def test_a_name_with_a_line_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line end"):
        write_set(tmp_path / "a.rec", [0], ["a\nb"])


def test_class_file_with_too_few_names(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "a.rec", (1, 5), (2, 1))
    beside(path, CLASS_MAP).write_text("a\nb\n")
    with pytest.raises(UserError, match=r"a\.classes\.txt: names labels 0 to 1, .*a\.rec has the label 5"):
        RecordSource(path)


def test_raw_arrays_are_decoded(tmp_path: Path) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    for stored, expected in [
        (pixels, pixels),
        (np.asfortranarray(pixels), pixels),
        (pixels[..., 0], np.repeat(pixels[..., :1], 3, 2)),
        (pixels[..., :1], np.repeat(pixels[..., :1], 3, 2)),
    ]:
        file = io.BytesIO()
        np.save(file, stored)
        with RecordWriter(tmp_path / "a.rec") as writer:
            writer.write(file.getvalue(), 0)
        assert (RecordSource(tmp_path / "a.rec")[0][0] == expected).all()


def npy(array: np.ndarray, **change: bytes) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    data = file.getvalue()
    for old, new in change.items():
        data = data.replace(old.encode(), new)
    return data


@pytest.mark.parametrize(
    "data",
    [
        npy(np.zeros((2, 3), np.float32)),
        npy(np.array([print], object)),
        npy(np.zeros(6, np.uint8)),
        npy(np.zeros((2, 3, 4), np.uint8)),
        npy(np.zeros((0, 3), np.uint8)),
        npy(np.zeros((2, 3), np.uint8))[:-1],
        npy(np.zeros((2, 3), np.uint8)) + b"\0",
        npy(np.zeros((2, 3), np.uint8)).replace(b"(2, 3)", b"(99999, 99999)"),
        npy(np.zeros((2, 3), np.uint8)).replace(b"(2, 3)", b"(" * 3000),
        b"\x93NUMPY",
    ],
)
def test_raw_arrays_that_are_no_images(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"x: a \.npy file of"):
        decode_image(data, name="x")


def test_list_lines(tmp_path: Path) -> None:
    entries = [ListEntry(5, (2.0,), "a b/c.jpg"), ListEntry(1, (1.0, 0.25), "d.jpg")]
    file = tmp_path / "a.lst"
    file.write_text("".join(map(format_lst, entries)))
    assert file.read_text() == "5\t2.000000\ta b/c.jpg\n1\t1.000000\t0.250000\td.jpg\n"
    assert list(read_lst(file)) == entries
    assert format_lst(ListEntry(1, (1.0,), "a\tb\nc")) == "1\t1.000000\ta b c\n"
    for line in ("1\t2", "x\t2\ty", "1\tx\ty", "-1\t2\ty", "", "9" * 19 + "\t1\ty"):
        file.write_text(f"5\t2\tx\n{line}\n")
        with pytest.raises(UserError, match=r"a\.lst:2: expected"):
            list(read_lst(file))


def test_property(tmp_path: Path) -> None:
    assert read_property(tmp_path) is None
    write_property(tmp_path, Property(85742, 112, 96))
    assert (tmp_path / "property").read_text() == "85742,112,96"
    assert read_property(tmp_path) == Property(85742, 112, 96)
    for text in ("", "1,2", "1,2,3,4", "a,b,c", "9" * 100 + ",1,1"):
        (tmp_path / "property").write_text(text)
        with pytest.raises(UserError, match="expected `num_classes,height,width`"):
            read_property(tmp_path)


def test_training_takes_a_record_file(tmp_path: Path) -> None:
    write_set(tmp_path / "a.rec", [0, 0, 1, 1, 2], ["a", "b", "c"])
    assignments = ["data.source=record", f"data.path={tmp_path / 'a.rec'}"]
    source = build_source(load_config("quickstart", assignments).data, (112, 112))
    assert isinstance(source, RecordSource)  # no copy of it where everybody stays
    source = build_source(load_config("quickstart", [*assignments, "data.min_images=2"]).data, (112, 112))
    assert (list(source.class_names), source.labels.tolist()) == (["a", "b"], [0, 0, 1, 1])
    (tmp_path / "pairs.csv").write_text("path_a,path_b,same\na/1.png,a/2.png,1\nb/1.png,c/1.png,0\n")
    with pytest.raises(UserError, match="none of the 3 identities is left"):
        build_source(
            load_config("quickstart", [*assignments, f"data.exclude.pairs={tmp_path / 'pairs.csv'}"]).data, (112, 112)
        )


@pytest.mark.real
@pytest.mark.parametrize("name", ["insightface", "im2rec"])
def test_sets_of_mxnet(test_data: Path, name: str) -> None:
    path = test_data / "data" / "mxnet" / name
    records = {key: entry for key, entry in parse_set(path / "train.rec").items() if entry[1]}
    source = RecordSource(path)
    assert len(source) == 96
    assert [source.encoded(index) for index in range(96)] == [records[key][1] for key in sorted(records)]
    assert source.labels.tolist() == [records[key][0][0] for key in sorted(records)]
    assert list(source.class_names) == [str(number) for number in range(12)]
    assert set(Counter(source.labels.tolist()).values()) == {8}
    assert all(pixels.shape == (112, 112, 3) and pixels.std() > 20 for pixels, _ in map(source.__getitem__, range(96)))
    ranges = {key: labels for key, (labels, data) in parse_set(path / "train.rec").items() if not data}
    if name == "insightface":
        assert read_property(path) == Property(12, 112, 112)
        assert ranges.pop(0) == (97, 109)
        assert [ranges[97 + label] for label in range(12)] == [(1 + 8 * label, 9 + 8 * label) for label in range(12)]
    else:
        assert not ranges
        listed = {entry.key: entry for entry in read_lst(path / "train.lst")}
        assert {key: entry.labels for key, entry in listed.items()} == {
            key: labels for key, (labels, _) in records.items()
        }
        assert all(record.id == key for key, record in RecordReader(path / "train.rec").items())
