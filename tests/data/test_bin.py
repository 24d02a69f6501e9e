"""Verification sets: every spelling of one set reads alike; nothing else is read, run or allowed to grow."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceprint.data.bin import read_bin, write_bin
from faceprint.data.safe_pickle import read_plain
from faceprint.errors import UserError

IMAGES = [b"\xff\xd8 one \n'\"\\", b"\x89PNG two \x00\x80", b"three " * 60, b"four\xfe"]
SAME = [True, False]


def load(path: Path, data: bytes) -> tuple[list[bytes], list[bool]]:
    path.write_bytes(data)
    images, same = read_bin(path)
    assert same.dtype == np.bool_
    return images, same.tolist()


def python2_pickle(protocol: int) -> bytes:
    """What Python 2 writes for (list of str, list of bool), instruction by instruction."""
    if protocol == 0:
        strings = b"".join(b"S" + repr(image)[1:].encode() + b"\np1\na" for image in IMAGES)
        return b"((lp0\n" + strings + b"(lp2\nI01\naI00\natp3\n."

    def string(image: bytes) -> bytes:
        short = len(image) < 256
        return (b"U" + bytes([len(image)]) if short else b"T" + struct.pack("<i", len(image))) + image + b"q\x02"

    return b"\x80\x02]q\x01(" + b"".join(map(string, IMAGES)) + b"e]q\x03(\x88\x89e\x86q\x04."


@pytest.mark.parametrize("protocol", [0, 2])
def test_python_2(tmp_path: Path, protocol: int) -> None:
    data = python2_pickle(protocol)
    assert pickle.loads(data, encoding="bytes") == (IMAGES, SAME)  # the fixture is a right one
    assert load(tmp_path / "a.bin", data) == (IMAGES, SAME)


def spellings() -> dict[str, Any]:
    arrays = [np.frombuffer(image, np.uint8) for image in IMAGES]
    return {
        "bytes": (IMAGES, SAME),
        "lists": [IMAGES, SAME],
        "tuples": (tuple(IMAGES), tuple(SAME)),
        "bytearrays": ([bytearray(image) for image in IMAGES], SAME),
        "arrays": (arrays, SAME),
        "own arrays": ([array.copy() for array in arrays], SAME),
        "columns": ([array.reshape(-1, 1).copy() for array in arrays], SAME),
        "numpy flags": (IMAGES, [np.True_, np.False_]),
        "flag array": (IMAGES, np.array(SAME)),
        "int flags": (IMAGES, [1, 0]),
        "int64 array": (IMAGES, np.array([1, 0])),
        "big-endian array": (IMAGES, np.array([1, 0], ">i4")),
        "one-byte ints": (IMAGES, np.array([1, 0], np.int8)),
        "numpy ints": (IMAGES, [np.int64(1), np.int64(0)]),
    }


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", spellings())
def test_every_spelling_and_protocol(tmp_path: Path, name: str, protocol: int) -> None:
    data = pickle.dumps(spellings()[name], protocol=protocol)
    assert load(tmp_path / "a.bin", data) == (IMAGES, SAME)
    old_numpy = data.replace(b"numpy._core.", b"numpy.core.")
    if protocol < 4:  # where names are not counted
        assert load(tmp_path / "a.bin", old_numpy) == (IMAGES, SAME)


def test_written_set_is_what_the_published_loader_reads(tmp_path: Path) -> None:
    write_bin(tmp_path / "a.bin", IMAGES, np.array(SAME))
    images, same = pickle.loads((tmp_path / "a.bin").read_bytes())
    assert images == IMAGES
    assert same == SAME
    assert all(type(flag) is bool for flag in same)
    assert load(tmp_path / "a.bin", (tmp_path / "a.bin").read_bytes()) == (IMAGES, SAME)
    assert os.listdir(tmp_path) == ["a.bin"]


@given(st.lists(st.tuples(st.binary(min_size=1), st.binary(min_size=1), st.booleans()), min_size=1, max_size=20))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[bytes, bytes, bool]]) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.bin"
    images = [image for first, second, _ in pairs for image in (first, second)]
    write_bin(path, images, [same for *_, same in pairs])
    read, same = read_bin(path)
    assert read == images
    assert same.tolist() == [flag for *_, flag in pairs]


@pytest.mark.parametrize(
    ("images", "same", "message"),
    [
        ([b"a"], [True], "1 pairs and 1 images"),
        ([], [], "0 pairs"),
        ([b"a", b""], [True], "image 1 is empty"),
        ([b"a", b"b"], [2], "true/false"),
        ([b"a", b"b"], [[True]], "true/false"),
    ],
)
def test_write_refuses(tmp_path: Path, images: list[bytes], same: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_bin(tmp_path / "a.bin", images, same)
    assert not os.listdir(tmp_path)


def test_write_where_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"a\.bin: cannot be written"):
        write_bin(tmp_path / "file" / "a.bin", IMAGES, SAME)


class Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_named_and_not_run(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    for function, arguments in [
        (os.system, (f"touch {trace}",)),
        (eval, (f"open({str(trace)!r}, 'w')",)),
        (getattr, (b"", "hex")),
        (np.lib.format.open_memmap, (str(trace), "w+", np.uint8, None, (9,))),
    ]:
        data = pickle.dumps(([Runs(function, *arguments), b"b"], [True]), protocol=protocol)
        with pytest.raises(UserError, match=function.__name__) as error:
            load(tmp_path / "a.bin", data)
        assert "nothing in it was run" in str(error.value)
        assert not trace.exists()


HOSTILE = {
    "empty": b"",
    "text": b"Abel_Pacheco\t1\t4\n",
    "jpeg": b"\xff\xd8\xff\xe0" + bytes(100),
    "no stop": pickle.dumps((IMAGES, SAME))[:-1],
    "nothing on the stack": b".",
    "stop inside a mark": b"((.",
    "unknown instruction": b"\x80\x02\xfe.",
    "future protocol": b"\x80\x09N.",
    "persistent id": b"Pname\n.",
    "extension": b"\x82\x01.",
    "instance": b"(iposix\nsystem\n.",
    "new object": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "dictionary": pickle.dumps({"a": 1}),
    "float": pickle.dumps(1.5),
    "claims 2^60 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"a.",
    "claims a frame of 2^60 bytes": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.",
    "negative length": b"T" + struct.pack("<i", -5) + b"abc.",
    "memo at 2^31": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "memo never set": b"\x80\x02h\x07.",
    "tuple of nothing": b"\x80\x02\x87.",
    "append to bytes": b"U\x01aNa.",
    "append to nothing": b"Na.",
    "call of a value": b"U\x01a)R.",
    "call without a tuple": b"cnumpy\nndarray\nNR.",
    "state for a function": b"cnumpy\nndarray\nNb.",
    "state for a list": b"]Nb.",
    "name that is no text": b"\x80\x04NN\x93.",
    "digits": b"I" + b"9" * 100_000 + b"\n.",
    "no number": b"Iabc\n.",
    "unquoted": b"Sabc\n.",
    "bad text": b"X\x01\x00\x00\x00\xff.",
    "object array": pickle.dumps((np.array([b"a", b"b"], object), [True])),
    "object array, protocol 2": pickle.dumps(([np.array([b"a"], object)] * 2, [True]), 2),
    "float array": pickle.dumps(([np.zeros(3)] * 2, [True])),
    "pixels": pickle.dumps(([np.zeros((4, 4, 3), np.uint8)] * 2, [True])),
    "array of one image's text": pickle.dumps((np.array([b"a", b"b"]), [True])),
    "array without dtype": b"cnumpy\nndarray\n)R(I1\n(I1\ntNI00\nU\x01atb.",
    "wrong shape": pickle.dumps(([np.zeros(3, np.uint8)] * 2, [True]), 2).replace(b"K\x03\x85", b"K\x04\x85"),
    "one flag too many": pickle.dumps((IMAGES, [True] * 3)),
    "no pairs": pickle.dumps(([], [])),
    "flags of 2": pickle.dumps((IMAGES, [0, 2])),
    "flags of text": pickle.dumps((IMAGES, ["yes", "no"])),
    "flags absent": pickle.dumps((IMAGES, None)),
    "images absent": pickle.dumps((None, SAME)),
    "text images": pickle.dumps((["a", "b"], [True])),
    "three parts": pickle.dumps((IMAGES, SAME, 0)),
    "list in itself": b"](h\x00lp0\n.",
    "deep": b"\x80\x02N" + b"\x85" * 200_000 + b".",
    "deep in a name": b"\x80\x04N" + b"\x85" * 100_000 + b"N\x93.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_malformed(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"a\.bin: ") as error:
        load(tmp_path / "a.bin", HOSTILE[name])
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


def copies_of_one_text() -> bytes:
    """A megabyte of text encoded anew 20,000 times: 20 GB out of 1.2 MB."""
    out = io.BytesIO()
    out.write(b"\x80\x02c_codecs\nencode\nq\x00X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x01")
    out.write(b"X\x06\x00\x00\x00latin1q\x02](" + b"h\x00h\x01h\x02\x86R" * 20_000 + b"e.")
    return out.getvalue()


def shared_array() -> bytes:
    """A megabyte as one array, 200,000 entries that all are it."""
    array = np.zeros(1 << 20, np.uint8)
    return pickle.dumps(([array] * 200_000, [True] * 100_000))


def test_memory_is_bounded_by_the_file(tmp_path: Path) -> None:
    (tmp_path / "copies.bin").write_bytes(copies_of_one_text())
    (tmp_path / "shared.bin").write_bytes(shared_array())
    for name in ("claims 2^60 bytes", "memo at 2^31"):
        (tmp_path / f"{name.replace(' ', '_')}.bin").write_bytes(HOSTILE[name])
    program = """
import resource, sys
from pathlib import Path
from faceprint.data.bin import read_bin
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_bin(path)
    except ValueError as error:
        print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    run = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
    assert "more than its own size" in run.stdout
    assert float(run.stdout.splitlines()[-1]) < 100  # MiB


@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 5))
def test_damage_is_an_error_or_plain_data(noise: bytes, at: int, protocol: int) -> None:
    data = pickle.dumps((IMAGES, np.array(SAME)), protocol)
    for damaged in (data[:at], data[:at] + noise + data[at + len(noise) :], noise):
        with contextlib.suppress(UserError):  # and no other error
            read_plain(damaged, "noise")


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "a.bin").open("wb") as file:
        file.truncate((1 << 32) + 1)  # takes no room on the disk
    with pytest.raises(UserError, match="4294967297 bytes; a verification set is read whole"):
        read_bin(tmp_path / "a.bin")


def test_missing_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.bin", tmp_path):
        with pytest.raises(UserError, match="no such file"):
            read_bin(path)
