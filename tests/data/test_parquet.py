"""Parquet files, against pyarrow itself and the layout that Hugging Face datasets documents."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faceprint.data import parquet
from faceprint.data.formats import open_source
from faceprint.data.images import ImageError
from faceprint.data.parquet import ParquetSource, ParquetWriter, parquet_source
from faceprint.data.synthetic import SyntheticFaces
from faceprint.data.write_set import write_set
from faceprint.errors import UserError

FACES = SyntheticFaces(3, 4, size=(16, 16))
IMAGE = FACES.encoded(0)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_IMAGES", 2)
    monkeypatch.setattr(parquet, "FILE_IMAGES", 5)


def table(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def write(folder: Path, start: int, stop: int) -> ParquetWriter:
    writer = ParquetWriter(folder, FACES.class_names, FACES.labels[:start])
    for index in range(start, stop):
        writer.write(FACES.encoded(index), int(FACES.labels[index]), f"x/{index}.png")
    return writer


def test_what_is_written_is_the_layout_of_hugging_face(tmp_path: Path) -> None:
    write(tmp_path, 0, 12).finish()
    files = sorted(tmp_path.iterdir())
    assert [pq.read_metadata(path).num_row_groups for path in files] == [3, 3, 1]
    schema = pq.read_schema(files[0])
    assert schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert schema.field("label").type == pa.int64()
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"names": list(FACES.class_names), "_type": "ClassLabel"}
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    for index, row in enumerate(rows):
        assert row == {
            "image": {"bytes": FACES.encoded(index), "path": f"x/{index}.png"},
            "label": FACES.labels[index],
        }


def test_many_names_are_not_in_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two million of them in each of five thousand files would be as many bytes as the images."""
    monkeypatch.setattr(parquet, "MAX_STATED_NAMES", 2)
    for name in ("set", "set.parquet"):
        write_set(FACES, tmp_path / name, kind="parquet")
        file = next((tmp_path / name).glob("*.parquet")) if name == "set" else tmp_path / name
        assert b"synthetic-" not in pq.read_schema(file).metadata[b"huggingface"]
        source = open_source(tmp_path / name)
        assert (list(source.class_names), source.labels.tolist()) == (list(FACES.class_names), FACES.labels.tolist())


@pytest.mark.parametrize("stop", [0, 5, 10])
def test_a_writer_goes_on_between_files(tmp_path: Path, stop: int) -> None:
    first = write(tmp_path, 0, stop)
    assert first.checkpoint() == {}
    first.close()
    going = write(tmp_path, stop, 12)
    assert going.checkpoint() is None
    going.finish()
    source = parquet_source(tmp_path)
    assert [source.encoded(index) for index in range(12)] == [FACES.encoded(index) for index in range(12)]


def test_a_set_survives_the_round_trip(tmp_path: Path) -> None:
    write_set(FACES, tmp_path / "set", kind="parquet", workers=2)
    source = open_source(tmp_path / "set")
    assert isinstance(source, ParquetSource)
    assert list(source.class_names) == list(FACES.class_names)
    assert source.labels.tolist() == FACES.labels.tolist()
    assert source[7][0].tolist() == FACES[7][0].tolist()
    name = FACES.class_names[1]
    assert source.stored_path(5) == f"{name}/{name}_0002.png"
    assert source.name(5) == f"{tmp_path}/set/train-00001.parquet: row 0"
    assert pickle.loads(pickle.dumps(source)).encoded(3) == FACES.encoded(3)


def test_names_numbers_and_rows_without_a_label(tmp_path: Path) -> None:
    named = table(tmp_path / "a.parquet", image=[IMAGE] * 5, identity=["bob", None, "ann", "bob", "cy"], label=[1] * 5)
    source = parquet_source(named)
    assert (list(source.class_names), source.labels.tolist()) == (["ann", "bob", "cy"], [1, 0, 1, 2])
    assert dict(source.skipped) == {"images without a label": 1}
    assert source.name(1).endswith("a.parquet: row 2")
    assert source.stored_path(0) == ""
    numbered = parquet_source(named, label_column="label")
    assert (list(numbered.class_names), len(numbered)) == (["1"], 5)
    other = table(tmp_path / "b.parquet", pic=[{"bytes": IMAGE}] * 3, person=[10, 9, 100])
    source = parquet_source(other, image_column="pic", label_column="person")
    assert (list(source.class_names), source.labels.tolist()) == (["9", "10", "100"], [1, 0, 2])


def test_labels_of_a_categorical_column(tmp_path: Path) -> None:
    for values, names in ((["bob", None, "ann", "bob"], ["ann", "bob"]), ([10, None, 9, 10], ["9", "10"])):
        labels = pa.array(values).dictionary_encode()
        source = parquet_source(table(tmp_path / "x.parquet", image=[IMAGE] * 4, label=labels))
        assert (list(source.class_names), source.labels.tolist()) == (names, [1, 0, 1])
        assert dict(source.skipped) == {"images without a label": 1}


def test_row_groups_that_are_kept_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path / "a.parquet", image=[IMAGE] * 20, label=list(range(20)))
    monkeypatch.setattr(parquet, "CACHE_BYTES", 5 * len(IMAGE))
    source = parquet_source(path)
    for index in range(20):
        source.encoded(index)
    assert 1 <= len(source.reader._groups) <= 2
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 10)
    with pytest.raises(UserError, match=r"row group 0 holds .* smaller row groups"):
        parquet_source(path)


def test_mistakes(tmp_path: Path) -> None:
    for columns, words in (
        ({"image": [IMAGE], "who": ["x"]}, "has no column identity or label; there are image, who"),
        ({"picture": [IMAGE], "label": [1]}, r"no column 'image' .*picture \(binary\), label \(int64\)"),
        ({"image": ["a.jpg"], "label": [1]}, "no column 'image' of encoded images"),
        ({"image": [IMAGE], "label": [0.5]}, "labels are of type double"),
        ({"image": [IMAGE], "label": pa.array([None], pa.int64())}, "no labelled images"),
    ):
        with pytest.raises(UserError, match=words):
            parquet_source(table(tmp_path / "x.parquet", **columns))
    path = table(tmp_path / "x.parquet", image=[{"bytes": None, "path": "/etc/passwd"}, {"bytes": IMAGE}], label=[1, 2])
    with pytest.raises(ImageError, match=r"row 0: holds no image \(paths"):
        parquet_source(path)[0]
    (tmp_path / "y.parquet").write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(UserError, match="as a Parquet file: cannot be read"):
        parquet_source(tmp_path / "y.parquet")


def test_a_small_file_does_not_fill_the_memory(tmp_path: Path) -> None:
    """A million equal labels are some kilobytes in the file and 16 MB when they are read."""
    path = tmp_path / "x.parquet"
    columns = pa.table({"image": pa.nulls(10**6, pa.binary()), "label": pa.array(np.zeros(10**6, np.int64))})
    pq.write_table(columns, path, row_group_size=10**4, compression="zstd")
    assert path.stat().st_size < 10**6
    with pytest.raises(UserError, match=r"x\.parquet: claims 1,000,000 images in [0-9,]+ bytes"):
        parquet_source(path)


def test_labels_that_cannot_be_held_are_errors(tmp_path: Path) -> None:
    text = [None, pa.py_buffer(np.array([0, 1], np.int32).tobytes()), pa.py_buffer(b"\xff")]
    for labels in (pa.array([2**64 - 1], pa.uint64()), pa.Array.from_buffers(pa.string(), 1, text)):
        with pytest.raises(UserError, match=r"x\.parquet: labels: cannot be read"):
            parquet_source(table(tmp_path / "x.parquet", image=[IMAGE], label=labels))
    pq.write_table(pa.Table.from_arrays([[IMAGE], [IMAGE], [1]], ["image", "image", "label"]), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"there are image \(binary\), image \(binary\)"):
        parquet_source(tmp_path / "x.parquet")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_an_error_or_another_byte(tmp_path: Path, data: st.DataObject) -> None:
    """Pages carry checksums: a flip in an image is noticed, and one in a footer is an error or changes a name."""
    if not (tmp_path / "whole").exists():
        (tmp_path / "whole").mkdir()
        write(tmp_path / "whole", 0, 5).finish()
    whole = (tmp_path / "whole" / "train-00000.parquet").read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = data.draw(
        st.sampled_from([whole[:at], whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :]]), label="damage"
    )
    path = tmp_path / "damaged.parquet"
    path.write_bytes(damaged)
    try:
        source = parquet_source(path)
        found = [source.encoded(index) for index in range(len(source))]
    except UserError:
        return
    assert set(found) <= {FACES.encoded(index) for index in range(5)}
