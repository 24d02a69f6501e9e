"""Cached arrays: made once, made anew when their origin changed or their file is damaged in any way."""

from __future__ import annotations

import os
import stat
import zlib
from pathlib import Path

import numpy as np
import pytest

from faceprint.data.array_cache import MIN_LENGTH, Arrays, cached_arrays

COUNT = MIN_LENGTH + 3


class Maker:
    """Makes arrays and counts how often it did."""

    def __init__(self, count: int = COUNT) -> None:
        self.calls, self.count = 0, count

    def __call__(self) -> Arrays:
        self.calls += 1
        return {
            "small": np.arange(self.count, dtype=np.uint32),
            "none": np.zeros(0, np.uint8),
            "large": np.arange(self.count, dtype=np.int64) * 5 + self.calls,
        }


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "origin").write_bytes(b"origin")
    return tmp_path / "set" / "origin"


def is_right(arrays: Arrays, call: int) -> bool:
    count = np.arange(COUNT)
    return (
        (arrays["small"] == count).all()
        and (arrays["large"] == count * 5 + call).all()
        and [arrays[name].dtype.str for name in ("small", "none", "large")] == ["<u4", "|u1", "<i8"]
        and len(arrays["none"]) == 0
    )


def test_made_once_for_an_origin(origin: Path) -> None:
    make, file, absent = Maker(), origin.with_name("cache"), origin.with_name("absent")
    assert all(is_right(cached_arrays(file, [origin, absent], make), 1) for _ in range(3))
    assert make.calls == 1
    arrays = cached_arrays(file, [origin, absent], make)
    assert isinstance(arrays["large"].base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        arrays["large"][0] = 1
    os.utime(origin, ns=(1, 1))
    assert is_right(cached_arrays(file, [origin, absent], make), 2)
    origin.write_bytes(b"longer now")
    assert is_right(cached_arrays(file, [origin, absent], make), 3)
    absent.write_bytes(b"")
    assert is_right(cached_arrays(file, [origin, absent], make), 4)
    assert is_right(cached_arrays(file, [origin, absent], make), 4)
    assert sorted(path.name for path in origin.parent.iterdir()) == ["absent", "cache", "origin"]
    assert is_right(arrays, 1)  # what was mapped before stays as it was


def test_every_damage_is_mended(origin: Path) -> None:
    make, file = Maker(), origin.with_name("cache")
    cached_arrays(file, [origin], make)
    content = file.read_bytes()
    places = [*range(200), *range(200, len(content), 3001), len(content) - 1]
    damaged = [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in places]
    damaged += [content[:at] for at in places] + [
        b"",
        b"\0" * 100,
        content[:19] + b"%d " % zlib.crc32(b"[" * 100_000) + b"[" * 100_000 + b"\n",
        b"x" * (1 << 21),
    ]
    rebuilt = 0
    for data in damaged:
        file.write_bytes(data)
        before = make.calls
        arrays = cached_arrays(file, [origin], make)
        rebuilt += make.calls - before
        call = int(arrays["large"][0])
        assert is_right(arrays, call)
    assert rebuilt > 0.9 * len(damaged)  # in the zeros between the arrays it does no harm


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_in_the_users_cache_where_the_folder_cannot_be_written(origin: Path) -> None:
    origin.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    check_user_cache(origin, origin.with_name("cache"))


def test_in_the_users_cache_where_the_folder_is_none(origin: Path) -> None:
    check_user_cache(origin, origin / "cache")


def check_user_cache(origin: Path, file: Path) -> None:
    make = Maker()
    assert all(is_right(cached_arrays(file, [origin], make), 1) for _ in range(2))
    assert make.calls == 1
    assert len(list((origin.parent.parent / "user" / "faceprint" / "arrays").iterdir())) == 1


def test_in_memory_where_nothing_can_be_written(origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(origin))
    make = Maker()
    assert is_right(cached_arrays(origin / "cache", [origin], make), 1)
    assert is_right(cached_arrays(origin / "cache", [origin], make), 2)


def test_short_arrays_leave_no_file(origin: Path) -> None:
    cached_arrays(origin.with_name("cache"), [origin], Maker(10))
    assert [path.name for path in origin.parent.parent.rglob("*") if path.is_file()] == ["origin"]
