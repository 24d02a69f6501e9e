"""Reading by place without `os.pread`, as on Windows, against slices of the file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from faceprint.data import record_paths, recordio
from faceprint.data.read_at import open_to_read, seek_and_read
from faceprint.data.recordio import RecordReader, RecordWriter


def test_threads_do_not_move_each_others_place(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(50_000) + b"\x1a\r\n"
    (tmp_path / "a").write_bytes(content)
    descriptor = open_to_read(tmp_path / "a")
    places = np.random.default_rng(1).integers(0, len(content) + 10, 2000).tolist()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda at: seek_and_read(descriptor, 100, at), places))
    assert found == [content[at : at + 100] for at in places]


def test_records_are_the_same_either_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RecordWriter(tmp_path / "a.rec") as writer:
        for key in range(20):
            writer.write(bytes([key]) * (key * 700), label=key, key=key)
    here = dict(RecordReader(tmp_path / "a.rec"))
    monkeypatch.setattr(recordio, "read_at", seek_and_read)
    monkeypatch.setattr(record_paths, "read_at", seek_and_read)
    assert dict(RecordReader(tmp_path / "a.rec")) == here
