"""Landmarks in files: IJB's layout and our own, hostile ones, and the table that survives a kill."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceprint.data import landmark_table
from faceprint.data.detection import Face
from faceprint.data.landmark_table import UNFINISHED, LandmarkTable
from faceprint.data.landmarks import COLUMNS, CSV, NUMBERS, PARQUET, LandmarkFile, face_numbers, read_table
from faceprint.errors import UserError

FACE = Face(box=(1.5, 2, 30, 40), landmarks=np.arange(10, dtype=float).reshape(5, 2) + 0.25, score=0.75)


def row(crop, number=0.0):
    return crop, f"{crop} photographed", tuple(number + value for value in range(len(NUMBERS)))


def faces(file, *names, **options):
    return LandmarkFile(file, **options).detect_batch([], names)


def test_the_ijb_layout(tmp_path):
    (tmp_path / "ijb.txt").write_text(
        "1.jpg 46.060 62.026 87.785 60.323 68.851 77.656 52.162 99.875 86.450 98.648 0.999\n"
        "loose crop/2.jpg 1 2 3 4 5 6 7 8 9 10 0.5\n\n"
    )
    (one,), none, (spaced,) = faces(tmp_path / "ijb.txt", "1.jpg", "absent.jpg", "loose crop/2.jpg")
    expected = [[46.060, 62.026], [87.785, 60.323], [68.851, 77.656], [52.162, 99.875], [86.450, 98.648]]
    np.testing.assert_allclose(one.landmarks, expected, rtol=1e-6)
    assert one.score == pytest.approx(0.999)
    np.testing.assert_allclose(one.box, (46.060, 60.323, 87.785 - 46.060, 99.875 - 60.323), rtol=1e-5)
    assert none == []
    assert spaced.landmarks.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    assert faces(tmp_path / "ijb.txt", "1.jpg", "loose crop/2.jpg", score_threshold=0.6)[1] == []


@pytest.mark.parametrize("name", [PARQUET, CSV])
def test_our_own_tables_give_back_the_faces(tmp_path, monkeypatch, name):
    if name == CSV:
        monkeypatch.setattr(landmark_table, "find_spec", lambda package: None)
    with LandmarkTable(tmp_path) as table:
        table.add([("b/2.jpg", 'two, "x"\n', face_numbers(FACE)), ("a/1.jpg", "one", face_numbers(FACE))])
        assert table.finish() == tmp_path / name
    assert os.listdir(tmp_path) == [name]
    assert [crop for crop, _, _ in read_table(tmp_path / name)] == ["a/1.jpg", "b/2.jpg"]
    ((face,),) = faces(tmp_path / name, 'two, "x"\n')
    assert (face.box, face.score) == (FACE.box, FACE.score)
    np.testing.assert_array_equal(face.landmarks, FACE.landmarks)


def test_the_parquet_file_is_as_documented(tmp_path):
    with LandmarkTable(tmp_path) as table:
        table.add([row("a.jpg")])
        table.finish()
    read = parquet.read_table(tmp_path / PARQUET)
    assert tuple(read.column_names) == COLUMNS
    assert COLUMNS[:4] == ("crop", "photograph", "box_x", "box_y")
    assert COLUMNS[6:8] == ("left_eye_x", "left_eye_y")
    assert {str(kind) for kind in read.schema.types} == {"string", "float"}
    assert read.to_pylist()[0] == dict(zip(COLUMNS, ("a.jpg", "a.jpg photographed", *range(15)), strict=True))


def test_a_crop_has_one_row_and_later_runs_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(landmark_table, "find_spec", lambda package: None)
    with LandmarkTable(tmp_path) as table:
        table.add([row("a"), row("b")])
        table.finish()
    assert (tmp_path / CSV).exists()
    monkeypatch.undo()
    with LandmarkTable(tmp_path) as table:  # closed before it is finished, as by a stop
        assert ("a" in table, "c" in table, len(table)) == (True, False, 2)
        table.add([row("b", 0.5), row("c")])
    assert (tmp_path / UNFINISHED).exists()
    with LandmarkTable(tmp_path) as table:
        assert ("c" in table, len(table)) == (True, 3)
        table.finish()
    assert os.listdir(tmp_path) == [PARQUET]
    assert [(crop, numbers[0]) for crop, _, numbers in read_table(tmp_path / PARQUET)] == [
        ("a", 0),
        ("b", 0.5),
        ("c", 0),
    ]


def test_no_rows_leave_no_file(tmp_path):
    with LandmarkTable(tmp_path) as table:
        assert table.finish() is None
    assert os.listdir(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from faceprint.data.landmark_table import LandmarkTable
table = LandmarkTable(Path(sys.argv[1]))
for number in range(50):
    table.add((f"{number}/{i}", "p", tuple(map(float, range(15)))) for i in range(20))
    print(number, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_rows_survive_a_kill(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with LandmarkTable(tmp_path) as table:
        assert len(table) == 1000
        assert "49/19" in table


def test_names_that_are_no_unicode(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    with LandmarkTable(tmp_path) as table:
        table.add([row(name)])
        assert name in table
        table.finish()
    assert next(read_table(tmp_path / PARQUET))[0] == "caf\\udce9.jpg"


def test_a_damaged_database_is_said(tmp_path):
    (tmp_path / UNFINISHED).write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match=r"unfinished\.sqlite: cannot be used .* remove the file"):
        LandmarkTable(tmp_path)


def test_two_runs_in_one_folder(tmp_path):
    with LandmarkTable(tmp_path) as table:
        table._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        table.add([row("a")])
        with pytest.raises(UserError, match="another run works in this folder"):
            LandmarkTable(tmp_path, wait_seconds=0.1)


HEADER = ",".join(COLUMNS)
GOOD = "1 2 3 4 5 6 7 8 9 10 0.5"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", f"1.jpg {GOOD}\n2.jpg 1 2 3\n", r"a\.txt, line 2: 4 fields; expected name x1 y1"),
        ("a.txt", f"1.jpg {GOOD.replace('7', 'seven')}\n", r"a\.txt, line 1: '1 2 .*seven.*' are not all numbers"),
        ("a.txt", f"1.jpg {GOOD.replace('7', 'nan')}\n", r"line 1: a landmark or score is not a finite number"),
        ("a.txt", f"1.jpg {GOOD.replace('7', '1e999')}\n", r"line 1: a landmark or score is not a finite number"),
        ("a.txt", "x" * 100_000, "a line is longer than"),
        ("a.txt", b"\xff\xfe1.jpg", "not text in UTF-8"),
        ("a.csv", "path,score\n", "has no column photograph, left_eye_x"),
        ("a.csv", HEADER + "\na,b,1\n", r"line 2: 3 fields; its header has 17"),
        ("a.csv", HEADER + "\na,b," + ",".join("xyz" * 5) + "\n", "line 2: 'x y z x' are not all numbers"),
        ("a.csv", "", "has no column"),
        ("a.parquet", "PAR1 but not really PAR1", "cannot be read as Parquet"),
        ("a.parquet", "", "cannot be read as Parquet"),
        ("a.parquet", None, "cannot be read"),
        ("a.txt", None, "cannot be read"),
    ],
)
def test_files_that_are_not_as_they_should_be(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=message):
        LandmarkFile(tmp_path / name)


def test_a_torn_or_flipped_parquet_file_is_a_clear_error_or_read(tmp_path):
    with LandmarkTable(tmp_path) as table:
        table.add(row(f"{number}.jpg") for number in range(200))
        table.finish()
    sound = (tmp_path / PARQUET).read_bytes()
    random = np.random.default_rng(0)
    broken = tmp_path / "broken.parquet"
    refused = 0
    for _ in range(200):
        data = bytearray(sound)
        data[random.integers(len(data))] ^= 1 << random.integers(8)
        broken.write_bytes(data[: random.integers(1, len(data))] if random.random() < 0.3 else data)
        try:
            LandmarkFile(broken)
        except UserError:
            refused += 1
    assert refused > 60


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["a.txt", "a.csv"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data, name):
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(data if name == "a.txt" else HEADER.encode() + b"\n" + data)
    with suppress(UserError):
        LandmarkFile(path)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20).filter(lambda text: "\x00" not in text),
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=15, max_size=15),
        max_size=6,
    )
)
def test_any_names_and_numbers_come_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("round")
    with LandmarkTable(folder) as table:
        table.add((name, name, tuple(numbers)) for name, numbers in rows.items())
        target = table.finish()
    if target:
        back = {crop: list(numbers) for crop, _, numbers in read_table(target)}
        assert back == {name.encode("utf-8", "backslashreplace").decode(): numbers for name, numbers in rows.items()}


def test_a_csv_of_others_needs_neither_crops_nor_boxes(tmp_path):
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["score", "photograph", *NUMBERS[4:14]])
        writer.writeheader()
        writer.writerow({"photograph": "p", "score": 1, **{name: at for at, name in enumerate(NUMBERS[4:14])}})
    ((face,),) = faces(tmp_path / "a.csv", "p")
    assert face.landmarks.ravel().tolist() == list(range(10))
    assert face.box == (0, 1, 8, 8)
