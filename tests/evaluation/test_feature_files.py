"""Embeddings made elsewhere: every layout against NumPy's own writer or bytes packed here, and hostile files."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceprint.errors import UserError
from faceprint.evaluation.embedding_set import EmbeddingSet
from faceprint.evaluation.feature_files import (
    MissingFeaturesError,
    find_rows,
    is_feature_file,
    matrix_features,
    open_features,
    read_matrix,
    select_rows,
    write_matrix,
)

VECTORS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
PATHS = ["crops/Ann/Ann_0001.jpg", "crops/Ann/Ann_0002.png", "crops/Bo/Bo_0001.jpg", "crops/Bo.x/Bo_0001.v2"]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_as_embed_writes_it(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "a.npz", path=np.array(PATHS), embedding=VECTORS, label=np.array([0, 0, 1, 2], np.uint8))
    found = open_features(tmp_path / "a.npz")
    assert np.array_equal(found.vectors, VECTORS)
    assert (list(found.names), found.labels.tolist(), found.media) == (PATHS, [0, 0, 1, 2], None)


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_with_and_without_names(tmp_path: Path, order: Any) -> None:
    np.save(tmp_path / "a.npy", np.asarray(VECTORS, np.float64, order=order))
    found = open_features(tmp_path / "a.npy")
    assert (found.vectors.dtype, list(found.names)) == (np.float32, ["0", "1", "2", "3"])
    (tmp_path / "a.txt").write_text("\n".join(PATHS) + "\n")
    assert list(open_features(tmp_path / "a.npy").names) == PATHS
    (tmp_path / "b.txt").write_text("a\nb\nc\nd\n")
    assert open_features(tmp_path / "a.npy", tmp_path / "b.txt").names[2] == "c"
    np.save(tmp_path / "half.npy", VECTORS.astype(np.float16))
    assert open_features(tmp_path / "half.npy").vectors.dtype == np.float16
    (tmp_path / "b.txt").write_text("a\nb\nc\n")
    with pytest.raises(UserError, match="4 embeddings and 3 names"):
        open_features(tmp_path / "a.npy", tmp_path / "b.txt")
    with pytest.raises(UserError, match="cannot be read"):
        open_features(tmp_path / "a.npy", tmp_path / "absent.txt")


def packed(rows: int, columns: int, stride: int, kind: int, data: bytes) -> bytes:
    """As the devkit's generator has it: struct.pack('4i', …), then the numbers."""
    return struct.pack("<4i", rows, columns, stride, kind) + data


def test_megaface_matrices(tmp_path: Path) -> None:
    file = tmp_path / "a_algo.bin"
    file.write_bytes(packed(3, 1, 4, 5, struct.pack("<3f", 1, 2, 3)))
    assert read_matrix(file).tolist() == [[1], [2], [3]]
    assert open_features(file).vectors.tolist() == [[1, 2, 3]]
    file.write_bytes(packed(2, 2, 16, 6, struct.pack("<4d", 1, 2, 3, 4)))
    assert read_matrix(file).tolist() == [[1, 2], [3, 4]]
    file.write_bytes(packed(2, 2, 8, 6, struct.pack("<4d", 1, 2, 3, 4)))  # the devkit's own slip
    assert open_features(file).vectors.tolist() == [[1, 2], [3, 4]]
    write_matrix(file, np.array([1.5, 2, 3]))
    assert file.read_bytes() == packed(3, 1, 4, 5, struct.pack("<3f", 1.5, 2, 3))
    write_matrix(file, VECTORS)
    assert np.array_equal(read_matrix(file), VECTORS)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"abc", packed(3, 1, 4, 5, b""), packed(3, 1, 4, 5, bytes(16)), packed(3, 1, 4, 4, bytes(12)),
        packed(-3, 1, 4, 5, bytes(12)), packed(3, -1, -4, 5, bytes(12)), packed(2**31 - 1, 2**31 - 1, 4, 5, bytes(12)),
        packed(3, 1, 8, 5, bytes(12)), packed(0, 1, 4, 5, b""),
    ],
)  # fmt: skip
def test_matrices_that_are_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.bin").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.bin"):
        read_matrix(tmp_path / "a.bin")


def test_a_file_an_image(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.bin" for i in range(4)]
    for file, vector in zip(files, VECTORS, strict=True):
        write_matrix(file, vector)
    assert np.array_equal(matrix_features(files, PATHS).vectors, VECTORS)
    files[1].unlink()
    files[3].unlink()
    with pytest.raises(MissingFeaturesError, match="lack 2 of 4 images: crops/Ann/Ann_0002") as error:
        matrix_features(files, PATHS)
    assert error.value.missing == [PATHS[1], PATHS[3]]
    write_matrix(files[1], VECTORS[0, :2])
    with pytest.raises(UserError, match="2 x 1 numbers; the first file has 3"):
        matrix_features(files[:2], PATHS[:2])
    with pytest.raises(UserError, match="no files"):
        matrix_features([], [])


def test_names_are_found_by_their_last_parts() -> None:
    assert find_rows(PATHS, ["Bo/Bo_0001", "Ann_0002.jpg", "crops/Ann/Ann_0001.png", "Bo.x/Bo_0001.v2"]).tolist() == [
        2, 1, 0, 3,
    ]  # fmt: skip
    with pytest.raises(MissingFeaturesError, match="lack 2 of 3 images: Cy/Cy_0001, nn_0001"):
        find_rows(PATHS, ["Cy/Cy_0001", "Ann/Ann_0001", "nn_0001"])
    with pytest.raises(UserError, match="several embeddings are of an image 'Ann_0001'"):
        find_rows([*PATHS, "other/Ann_0001.png"], ["Bo_0001", "Ann_0001"])


def test_rows_are_taken_with_all_that_is_known() -> None:
    whole = EmbeddingSet(vectors=VECTORS, names=PATHS, labels=np.arange(4), unreadable={2: "broken"})
    chosen = select_rows(whole, ["Bo/Bo_0001", "Ann/Ann_0001"])
    assert (chosen.names, chosen.labels.tolist(), chosen.unreadable) == ([PATHS[2], PATHS[0]], [2, 0], {0: "broken"})
    assert select_rows(whole, [3, 1]).vectors.tolist() == VECTORS[[3, 1]].tolist()
    with pytest.raises(UserError, match="4 embeddings; this set has at least 5 images"):
        select_rows(whole, [0, 4])


def npy(array: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def zipped(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return content.getvalue()


NAMES = npy(np.array(PATHS))
HUGE = npy(VECTORS).replace(b"(4, 3), }            ", b"(400000000000, 3), } ")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.npz", b""),
        ("a.npz", b"PK\x03\x04"),
        ("a.npz", zipped(path=NAMES)),
        ("a.npz", zipped(path=NAMES, embedding=b"not an array")),
        ("a.npz", zipped(path=NAMES, embedding=npy(np.array([{}], object)))),
        ("a.npz", zipped(path=NAMES, embedding=npy(VECTORS)[:-1])),
        ("a.npz", zipped(path=NAMES, embedding=HUGE)),
        ("a.npz", zipped(path=NAMES, embedding=npy(VECTORS.astype(int)))),
        ("a.npz", zipped(path=NAMES, embedding=npy(VECTORS[:3]))),
        ("a.npz", zipped(path=npy(np.arange(4)), embedding=npy(VECTORS))),
        ("a.npz", zipped(path=NAMES, embedding=npy(VECTORS), label=npy(np.zeros(4)))),
        ("a.npz", zipped(path=NAMES, embedding=npy(VECTORS), label=npy(np.zeros(3, int)))),
        ("a.npy", b""),
        ("a.npy", HUGE),
        ("a.npy", npy(np.array([{}], object))),
        ("a.npy", npy(VECTORS[0])),
        ("a.txt", b"1 2 3"),
    ],
)
def test_hostile_files_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError):
        open_features(tmp_path / name)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 600), st.binary(min_size=1, max_size=4))
def test_any_change_of_an_npz_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, change: bytes
) -> None:
    data = zipped(path=NAMES, embedding=npy(VECTORS))
    at = at * len(data) // 601
    file = tmp_path_factory.getbasetemp() / "fuzzed.npz"
    file.write_bytes(data[:at] + change + data[at + len(change) :])
    try:
        found = open_features(file)
    except UserError:
        return
    assert found.vectors.shape == (len(found.names), found.vectors.shape[1])


def test_what_counts_as_features(tmp_path: Path) -> None:
    EmbeddingSet(vectors=VECTORS, names=PATHS).save(tmp_path / "set")
    assert is_feature_file(tmp_path / "set")
    assert [is_feature_file(name) for name in ("a.npz", "a.NPY", "a.bin", "a.onnx", str(tmp_path))] == [
        True, True, True, False, False,
    ]  # fmt: skip
    assert list(open_features(tmp_path / "set").names) == PATHS
    with pytest.raises(UserError, match="has its names in it"):
        open_features(tmp_path / "a.npz", "names.txt")
