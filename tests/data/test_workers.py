"""What the workers of the loader promise: the same batches however many, no leaks, and a name for each death."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from faceprint.data import cache as cache_module
from faceprint.data.cache import cached
from faceprint.data.folder import image_folder
from faceprint.data.gpu_decoder import DeviceDecoder, nvimagecodec
from faceprint.data.images import Image, decode_image
from faceprint.data.loader import Loader
from faceprint.data.pixels import InputSpec
from faceprint.data.sampler import BatchOrder
from faceprint.data.source import Source
from faceprint.data.synthetic import SyntheticFaces
from faceprint.errors import UserError, WorkerDied

SPEC = InputSpec(size=(16, 16))


def faces() -> SyntheticFaces:
    return SyntheticFaces(5, 4, size=(16, 16))


def order(last: int = 9, count: int = 20) -> BatchOrder:
    return BatchOrder(num_images=count, batch_size=6, seed=2, first=0, last=last)


def contents(loader: Loader) -> list[tuple[bytes, list[int]]]:
    return [(batch.images.numpy().tobytes(), batch.labels.tolist()) for batch in loader]


@pytest.mark.parametrize(("workers", "prefetch"), [(1, 1), (2, 2), (3, 1), (2, 20)])
def test_batches_do_not_depend_on_the_workers(workers: int, prefetch: int) -> None:
    alone = contents(Loader(faces(), order(), SPEC, workers=0, max_unreadable=0))
    assert len(alone) == 9
    made = contents(Loader(faces(), order(), SPEC, workers=workers, prefetch=prefetch, max_unreadable=0))
    assert made == alone


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_other_start_methods(start_method: str) -> None:
    loader = Loader(faces(), order(3), SPEC, workers=2, max_unreadable=0, start_method=start_method)
    assert contents(loader) == contents(Loader(faces(), order(3), SPEC, workers=0, max_unreadable=0))


def test_no_batches_start_no_worker() -> None:
    assert contents(Loader(faces(), order(0), SPEC, workers=2, max_unreadable=0)) == []


def test_a_batch_holds_until_the_next_is_asked_for() -> None:
    expected = contents(Loader(faces(), order(), SPEC, workers=0, max_unreadable=0))
    for batch, (pixels, _) in zip(Loader(faces(), order(), SPEC, workers=2, max_unreadable=0), expected, strict=True):
        time.sleep(0.02)  # the workers go on meanwhile
        assert batch.images.numpy().tobytes() == pixels


def children() -> set[int]:
    found: set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            found.add(int(folder.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_the_iterator_wherever_it_stops() -> None:
    before, shared = children(), set(os.listdir("/dev/shm"))
    batches = iter(Loader(faces(), order(), SPEC, workers=2, max_unreadable=0))
    next(batches)
    assert len(children() - before) == 2
    del batches
    assert children() == before
    assert set(os.listdir("/dev/shm")) <= shared


@dataclass(frozen=True)
class Deadly:
    """A source whose image 7 ends the process that reads it."""

    how: int
    faces: SyntheticFaces = field(default_factory=faces)

    @property
    def class_names(self) -> Sequence[str]:
        return self.faces.class_names

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.faces.labels

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        if index == 7:
            faulthandler.disable()
            os._exit(self.how) if self.how > 0 else os.kill(os.getpid(), -self.how)
        return self.faces[index]

    def encoded(self, index: int) -> bytes:
        return self.faces.encoded(index)

    def stored_path(self, index: int) -> str:
        return self.faces.stored_path(index)

    def name(self, index: int) -> str:
        return self.faces.name(index)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (-signal.SIGKILL, r"was killed by SIGKILL while it read batch \d+: most likely .* out of memory"),
        (-signal.SIGBUS, r"was killed by SIGBUS .*--shm-size"),
        (-signal.SIGSEGV, r"was killed by SIGSEGV .* crashed inside a library"),
        (-int(signal.SIGRTMIN) - 1, r"was killed by signal \d+ while it read batch \d+: it crashed"),
        (3, r"ended with status 3 while"),
    ],
)
def test_a_dead_worker_is_named(how: int, words: str) -> None:
    loader = Loader(Deadly(how), order(), SPEC, workers=2, max_unreadable=0)
    with pytest.raises(WorkerDied, match=r"^data worker [01] \(process \d+\) " + words):
        list(loader)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_a_killed_main_process(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        textwrap.dedent("""
        import multiprocessing, os, signal
        from faceprint.data.loader import Loader
        from faceprint.data.pixels import InputSpec
        from faceprint.data.sampler import BatchOrder
        from faceprint.data.synthetic import SyntheticFaces
        order = BatchOrder(num_images=20, batch_size=6, seed=2, first=0, last=9)
        batches = iter(Loader(SyntheticFaces(5, 4, size=(16, 16)), order, InputSpec(size=(16, 16)),
                              workers=3, max_unreadable=0))
        next(batches)
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    pids = done.stdout.split()
    assert len(pids) == 3, done.stderr
    until = time.monotonic() + 10
    while any(_lives(pid) for pid in pids):
        assert time.monotonic() < until, "workers outlived their main process"
        time.sleep(0.05)


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = faces()
    for index in range(len(source)):
        image, label = source[index]
        path = tmp_path / f"p{label}" / f"{index:02}.jpg"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), image[..., ::-1])
    return tmp_path


@pytest.mark.parametrize("kind", ["encoded", "decoded"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_cache_gives_the_same_and_reads_each_image_once(
    folder: Path, kind: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_CHUNK_BYTES", 2000)  # several chunks
    (folder / "p1" / "04.jpg").write_bytes(b"broken")
    source = image_folder(folder)
    plain = Loader(source, order(20), SPEC, workers=0, max_unreadable=0.1)
    expected = contents(plain)
    kept = cached(source, kind, SPEC)  # pyright: ignore[reportArgumentType]
    loader = Loader(kept, order(20), SPEC, workers=workers, max_unreadable=0.1)
    assert contents(loader) == expected
    assert loader.unreadable == plain.unreadable
    for asked in ("name", "encoded", "stored_path"):
        assert getattr(kept, asked)(3) == getattr(source, asked)(3)
    assert list(kept.class_names) == list(source.class_names)
    for path in folder.rglob("*.jpg"):
        path.unlink()
    if kind == "encoded" or workers == 0:  # decoded pixels came up in workers that are gone, but the memory is shared
        assert contents(Loader(kept, order(20), SPEC, workers=workers, max_unreadable=0.1)) == expected
    else:
        assert contents(Loader(kept, order(20), SPEC, workers=0, max_unreadable=0.1)) == expected


def test_a_cache_that_does_not_fit_is_refused_before_it_starts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "free_memory", lambda: 1000)
    source = image_folder(folder)
    with pytest.raises(UserError, match=r"loader.cache=decoded needs about .* use encoded or none"):
        cached(source, "decoded", SPEC)
    with pytest.raises(UserError, match=r"loader.cache=encoded needs about .* use none"):
        cached(source, "encoded", SPEC)
    monkeypatch.setattr(cache_module, "shared_memory_left", lambda: 10)
    with pytest.raises(UserError, match=r"/dev/shm has left \(docker run --shm-size sets it\)"):
        cached(source, "decoded", SPEC)
    assert cached(source, "none", SPEC) is source


class FakeCodec:
    """What nvImageCodec's decoder does, on the CPU: JPEG only, None for all else."""

    def decode(self, encoded: list[bytes]) -> list[torch.Tensor | None]:
        return [torch.from_numpy(decode_image(data, name="")) if data[:2] == b"\xff\xd8" else None for data in encoded]


@pytest.mark.parametrize("workers", [0, 2])
def test_decoding_on_the_device_gives_the_batches_of_the_cpu(folder: Path, workers: int) -> None:
    source = image_folder(folder)
    (folder / "p0" / "01.jpg").write_bytes(b"broken")
    (folder / "p0" / "02.jpg").write_bytes((folder / "p0" / "02.jpg").read_bytes()[:-40])
    (folder / "p3" / "13.jpg").write_bytes(faces().encoded(13))  # a PNG, which the device leaves to the CPU
    plain = Loader(source, order(12), SPEC, workers=0, max_unreadable=0.1)
    expected = contents(plain)
    decoder = DeviceDecoder(FakeCodec(), torch.device("cpu"))
    loader = Loader(source, order(12), SPEC, workers=workers, max_unreadable=0.1, decoder=decoder)
    assert contents(loader) == expected
    assert loader.unreadable == plain.unreadable
    assert len(loader.unreadable) == 2


def test_another_size_is_found_on_the_device_too(folder: Path) -> None:
    cv2.imwrite(str(folder / "p0" / "02.jpg"), np.zeros((9, 6, 3), np.uint8))
    source: Source = image_folder(folder)
    decoder = DeviceDecoder(FakeCodec(), torch.device("cpu"))
    with pytest.raises(UserError, match=r"02\.jpg: got 9x6x3 uint8"):
        list(Loader(source, order(12), SPEC, workers=0, max_unreadable=0, decoder=decoder))


def test_nvimagecodec_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"decoder=nvimagecodec needs CUDA, this run is on cpu"):
        nvimagecodec(torch.device("cpu"))
    monkeypatch.setitem(sys.modules, "nvidia", None)
    with pytest.raises(UserError, match=r"pip install 'faceprint\[gpu\]'"):
        nvimagecodec(torch.device("cuda"))
