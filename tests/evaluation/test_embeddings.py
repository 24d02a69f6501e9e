"""Embeddings are computed once: found again, gone on with after a kill, shared by processes, never of other images."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceprint.data.images import ImageError
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.evaluation.embeddings import (
    BLOCK,
    EmbeddingSet,
    ImageSet,
    UnreadableImagesError,
    cache_folder,
    embed_set,
    image_files,
    open_embeddings,
)
from faceprint.evaluation.names import Names, encode_names, open_names
from faceprint.inference.embedder import Embedder

SPEC = InputSpec(size=(4, 4))
WEIGHTS = np.random.default_rng(0).normal(size=(48, 6)).astype(np.float32)


class Counting:
    """Counts the images that a linear network is given, each view one; the first row of its weights is the model."""

    def __init__(self) -> None:
        self.views = 0

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.views += len(batch)
        return batch.reshape(len(batch), -1) @ WEIGHTS

    def embedder(self, model: str = "weights", spec: InputSpec = SPEC) -> Embedder:
        return Embedder(features=self, input=spec, embedding_dim=6, name="linear", content_hash=lambda: model)


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (4, 4, 3)).astype(np.uint8)


def generated(count: int, data: str = "generated") -> ImageSet:
    return ImageSet([f"person/{i}" for i in range(count)], pixels, lambda: data)


def expected(number: int, flip: bool = True) -> np.ndarray:
    """The published rule, written out for one image in float64: f(x) + f(mirrored x)."""
    x = ((pixels(number).astype(np.float32) - 127.5) / 127.5).transpose(2, 0, 1)
    raw = x.reshape(-1).astype(np.float64) @ WEIGHTS
    return raw + (x[..., ::-1].reshape(-1).astype(np.float64) @ WEIGHTS if flip else 0)


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("cached", [True, False])
def test_rows_are_the_published_rule(tmp_path: Path, flip: bool, cached: bool) -> None:
    count = 30
    made = embed_set(
        Counting().embedder(), generated(count), flip=flip, cache=tmp_path if cached else None, batch_size=7
    )
    assert made.names[3] == "person/3"
    for row in range(count):
        raw = expected(row, flip)
        assert np.allclose(made.vectors[row], raw / np.linalg.norm(raw), atol=1e-5)
        assert np.allclose(made.norms[row] * made.vectors[row], raw, atol=1e-4)
        views = [np.linalg.norm(expected(row, False))]
        if flip:
            views.append(np.linalg.norm(raw - expected(row, False)))
        assert made.view_norms[row] == pytest.approx(np.mean(views), rel=1e-5)


def test_a_hit_does_not_touch_the_model(tmp_path: Path) -> None:
    network, count, told = Counting(), 2 * BLOCK + 10, list[tuple[int, int]]()
    images = replace(generated(count), read=lambda i: pixels(i % 5))
    first = embed_set(network.embedder(), images, cache=tmp_path, progress=lambda *call: told.append(call))
    assert (network.views, first.computed, told[-1]) == (2 * count, count, (count, count))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    unread = replace(images, read=lambda i: pytest.fail("an image was read"))
    again = embed_set(network.embedder(), unread, cache=tmp_path, labels=np.arange(count), media=[0] * count)
    assert (network.views, again.computed) == (2 * count, 0)
    assert isinstance(again.vectors.base, np.memmap)
    assert np.array_equal(again.vectors, first.vectors)
    assert list(again.names) == list(images.names)
    assert again.labels is not None
    assert again.labels[-1] == count - 1
    assert not list(tmp_path.glob("*.partial"))


def test_whatever_the_embeddings_depend_on_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = Counting(), generated(5)
    embed_set(network.embedder(), images, cache=tmp_path)
    changed = [
        (network.embedder("other weights"), images, {}),
        (network.embedder(spec=InputSpec(size=(4, 4), mean=0)), images, {}),
        (network.embedder(spec=InputSpec(size=(4, 4), std=1)), images, {}),
        (network.embedder(spec=InputSpec(size=(4, 4), colour="bgr")), images, {}),
        (network.embedder(), generated(5, "other images"), {}),
        (network.embedder(), generated(6), {}),
        (network.embedder(), replace(images, resize_short=True), {}),
        (replace(network.embedder(), runs_on="cuda"), images, {}),
        (network.embedder(), images, {"flip": False}),
        (network.embedder(), images, {"dtype": "float16"}),
    ]
    for number, (embedder, given, how) in enumerate(changed):
        before = network.views
        embed_set(embedder, given, cache=tmp_path, **how)
        assert network.views > before, number
    assert len(list(tmp_path.iterdir())) == 1 + len(changed)
    monkeypatch.setattr("faceprint.evaluation.embeddings.__version__", "of another day")
    embed_set(network.embedder(), images, cache=tmp_path)
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 2 + len(changed)
    before = network.views
    embed_set(network.embedder(), images, cache=tmp_path, batch_size=2)  # of no consequence
    assert network.views == before


def test_what_has_no_fingerprint_is_not_kept(tmp_path: Path) -> None:
    network = Counting()
    embed_set(replace(network.embedder(), content_hash=None), generated(5), cache=tmp_path)
    embed_set(network.embedder(), replace(generated(5), fingerprint=None), cache=tmp_path)
    assert network.views == 20
    assert not list(tmp_path.iterdir())


def test_files_are_known_by_size_and_time(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), pixels(number)[..., ::-1])
    network, cache = Counting(), tmp_path / "cache"
    first = embed_set(network.embedder(), image_files(paths), cache=cache, flip=False)
    assert np.allclose(first.norms[1] * first.vectors[1], expected(1, False), atol=1e-4)
    embed_set(network.embedder(), image_files(paths), cache=cache, flip=False)
    assert network.views == 3
    cv2.imwrite(str(paths[1]), pixels(9)[..., ::-1])
    os.utime(paths[1], ns=(0, 12345))
    changed = embed_set(network.embedder(), image_files(paths), cache=cache, flip=False)
    assert network.views == 6
    assert np.allclose(changed.norms[1] * changed.vectors[1], expected(9, False), atol=1e-4)


def test_a_damaged_set_is_made_anew(tmp_path: Path) -> None:
    network = Counting()
    first = np.array(embed_set(network.embedder(), generated(5), cache=tmp_path).vectors)
    (folder,) = tmp_path.iterdir()
    for damage in ("embeddings.npy", "names.txt", "meta.json"):
        (folder / damage).write_bytes((folder / damage).read_bytes()[:-3])
        before = network.views
        assert np.array_equal(embed_set(network.embedder(), generated(5), cache=tmp_path).vectors, first)
        assert network.views == before + 10, damage


CHILD = textwrap.dedent(
    """
    import sys, time
    sys.path.insert(0, {tests!r})
    from test_embeddings import BLOCK, Counting, embed_set, generated

    network = Counting()
    inner = network.embedder()

    def progress(done, total):
        print(done, flush=True)
        if done > 3 * BLOCK:
            time.sleep(60)  # to be killed

    embed_set(inner, generated({count}), cache={cache!r}, batch_size=256, progress=progress)
    """
)


def start_child(cache: Path, count: int) -> subprocess.Popen[str]:
    code = CHILD.format(tests=str(Path(__file__).parent), cache=str(cache), count=count)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_killed_in_the_middle_it_goes_on_behind_the_last_block(tmp_path: Path) -> None:
    count = 10 * BLOCK
    child = start_child(tmp_path, count)
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) > 3 * BLOCK:
            os.kill(child.pid, signal.SIGKILL)
            break
    assert child.wait(30) == -signal.SIGKILL
    (partial,) = tmp_path.iterdir()
    done = [json.loads(line) for line in (partial / "rank-0.jsonl").read_text().splitlines()[1:]]
    assert [entry["block"] for entry in done] == [0, 1, 2]
    assert not (partial / "meta.json").exists()

    network = Counting()
    resumed = embed_set(network.embedder(), generated(count), cache=tmp_path, batch_size=256)
    assert resumed.computed == count - len(done) * BLOCK
    assert network.views == 2 * resumed.computed
    whole = embed_set(Counting().embedder(), generated(count), batch_size=256)
    assert np.array_equal(resumed.vectors, whole.vectors)
    assert resumed.content_hash() == whole.content_hash()


def test_a_block_that_is_not_what_the_journal_says_is_computed_again(tmp_path: Path) -> None:
    count = 2 * BLOCK + 5

    def interrupted(number: int) -> np.ndarray:
        if number == 2 * BLOCK:
            raise KeyboardInterrupt
        return pixels(number)

    with pytest.raises(KeyboardInterrupt):
        embed_set(Counting().embedder(), replace(generated(count), read=interrupted), cache=tmp_path)
    (partial,) = tmp_path.iterdir()
    vectors = np.lib.format.open_memmap(partial / "embeddings.npy", mode="r+")
    vectors[BLOCK + 1] = 0  # as after a loss of power
    vectors.flush()
    network = Counting()
    resumed = embed_set(network.embedder(), generated(count), cache=tmp_path)
    assert resumed.computed == BLOCK + 5
    assert np.array_equal(resumed.vectors, embed_set(Counting().embedder(), generated(count)).vectors)


def test_two_runs_of_one_set_do_not_mix(tmp_path: Path) -> None:
    child = start_child(tmp_path, 10 * BLOCK)
    assert child.stdout is not None
    while int(child.stdout.readline()) <= 3 * BLOCK:
        pass
    with pytest.raises(UserError, match="another process is writing it"):
        embed_set(Counting().embedder(), generated(10 * BLOCK), cache=tmp_path)
    os.kill(child.pid, signal.SIGKILL)
    child.wait(30)


def unreadable(number: int) -> np.ndarray:
    if number in (3, BLOCK + 1):
        raise ImageError(f"image {number}: broken")
    return pixels(number)


@pytest.mark.parametrize("cached", [True, False])
def test_unreadable_images(tmp_path: Path, cached: bool) -> None:
    count, network, cache = BLOCK + 4, Counting(), tmp_path if cached else None
    images = replace(generated(count), read=unreadable)
    with pytest.raises(UnreadableImagesError, match=rf"2 of {count:,} .*image 3: broken; image {BLOCK + 1}") as error:
        embed_set(network.embedder(), images, cache=cache)
    assert sorted(error.value.reasons) == [3, BLOCK + 1]
    before = network.views
    skipped = embed_set(network.embedder(), images, cache=cache, skip_unreadable=True)
    assert network.views == before + (0 if cached else 2 * (count - 2))
    assert skipped.unreadable == {3: "image 3: broken", BLOCK + 1: f"image {BLOCK + 1}: broken"}
    assert np.flatnonzero(~skipped.vectors.any(axis=1)).tolist() == [3, BLOCK + 1]
    assert np.allclose(skipped.norms[4] * skipped.vectors[4], expected(4), atol=1e-4)
    with pytest.raises(UnreadableImagesError):
        embed_set(network.embedder(), images, cache=cache)


def test_a_wrong_size_is_an_error_at_once(tmp_path: Path) -> None:
    wrong = replace(generated(5), read=lambda i: np.zeros((5, 4, 3), np.uint8))
    with pytest.raises(UserError, match="person/0: got 5x4x3"):
        embed_set(Counting().embedder(), wrong, cache=tmp_path)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written.*cache=none"):
        embed_set(Counting().embedder(), generated(3), cache=tmp_path / "file")


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder("here") == Path("here")
    assert cache_folder("none") is None
    monkeypatch.setenv("FACEPRINT_CACHE", "none")
    assert cache_folder() is None
    monkeypatch.setenv("FACEPRINT_CACHE", "there")
    assert (cache_folder(), cache_folder("none")) == (Path("there"), None)
    monkeypatch.delenv("FACEPRINT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "faceprint" / "embeddings"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_folder() is None


def made_up(count: int = 10, **more: Any) -> EmbeddingSet:
    vectors = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    return EmbeddingSet(vectors=vectors, names=[f"ä/{i}" for i in range(count)], **more)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_saved_and_opened(tmp_path: Path, dtype: Any) -> None:
    numbers = np.arange(10)
    given = made_up(
        labels=numbers % 3, templates=numbers // 2, media=numbers, unreadable={4: "broken"}, origin={"a": 1}
    )
    given = replace(given, vectors=given.vectors.astype(dtype))
    given.save(tmp_path / "set")
    found = open_embeddings(tmp_path / "set", verify=True)
    assert (found.vectors.dtype, list(found.names), found.names[-1]) == (dtype, given.names, "ä/9")
    assert np.array_equal(found.vectors, given.vectors)
    assert np.array_equal(found.templates, given.templates)
    assert (found.unreadable, found.origin, found.norms) == ({4: "broken"}, {"a": 1}, None)
    assert found.content_hash() == given.content_hash()
    made_up(3).save(tmp_path / "set")  # takes its place
    assert len(open_embeddings(tmp_path / "set", verify=True)) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert made_up(10).content_hash() != made_up(10, labels=numbers).content_hash()


def test_other_folders_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="is in the way"):
        made_up().save(tmp_path / "mine")


def test_tampering_is_found_by_verify(tmp_path: Path) -> None:
    made_up().save(tmp_path / "set")
    vectors = np.lib.format.open_memmap(tmp_path / "set" / "embeddings.npy", mode="r+")
    vectors[0, 0] += 1
    vectors.flush()
    open_embeddings(tmp_path / "set")
    with pytest.raises(UserError, match="content hash"):
        open_embeddings(tmp_path / "set", verify=True)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"}, {"rows": 11}, {"rows": "10"}, {"rows": -1}, {"dtype": "object"}, {"columns": ["../x"]},
        {"columns": ["labels"]}, {"unreadable": {"10": "x"}}, {"unreadable": {"-1": "x"}}, {"embedding_dim": 10**18},
        {"columns": [1]}, {"origin": None},
    ],
)  # fmt: skip
def test_hostile_descriptions_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    made_up().save(tmp_path / "set")
    meta = tmp_path / "set" / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), **change}))
    with pytest.raises(UserError):
        open_embeddings(tmp_path / "set")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["a"]}, "10 embeddings and 1 names"),
        ({"labels": np.arange(9)}, r"labels are int64 \(9,\)"),
        ({"media": np.zeros(10)}, "media are float64"),
        ({"vectors": np.zeros((10, 3))}, "embeddings are float64"),
        ({"vectors": np.zeros(10, np.float32)}, "embeddings are float32"),
    ],
)
def test_lengths_and_types_must_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(made_up(), **change)


def test_a_million_names(tmp_path: Path) -> None:
    given = [f"people/{i // 7}/image {i}.jpg" for i in range(10**6)]
    (tmp_path / "names").write_bytes(encode_names(given))
    started = time.perf_counter()
    names = open_names(tmp_path / "names")
    assert names[999_999] == given[-1]
    assert names[-1] == given[-1]
    assert names[5:1000:3] == given[5:1000:3]
    assert time.perf_counter() - started < 2  # about 0.05
    assert len(names) == 10**6
    assert list(names) == given
    with pytest.raises(IndexError):
        names[10**6]


def test_odd_names() -> None:
    odd = ["", "ä\r\u2028b", os.fsdecode(b"\xff.jpg"), "\t"]
    assert list(Names(encode_names(odd))) == odd
    assert [Names(encode_names(odd))[i] for i in range(4)] == odd
    assert list(Names(b"")) == []
    with pytest.raises(UserError, match="line feed"):
        encode_names(["a\nb"])
