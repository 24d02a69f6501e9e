"""Files behind URLs: fsspec's memory, and a web server of this test."""

from __future__ import annotations

import multiprocessing
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from faceprint.data import shards
from faceprint.data.formats import open_source, recognise
from faceprint.data.images import ImageError
from faceprint.data.name_list import read_name_list
from faceprint.data.parquet import parquet_source
from faceprint.data.rearrange import chosen
from faceprint.data.shards import ShardSource, ShardWriter, shard_source
from faceprint.data.source import Source
from faceprint.data.storage import RangeReader, expand_braces, find_files
from faceprint.data.synthetic import SyntheticFaces
from faceprint.data.write_set import write_set
from faceprint.errors import UserError

FACES = SyntheticFaces(3, 4, size=(16, 16))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "SHARD_IMAGES", 5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_set(FACES, tmp_path / "set", kind="parquet", workers=1)
    writer = ShardWriter(tmp_path / "set", FACES.class_names, FACES.labels[:0])
    for index in range(12):
        writer.write(FACES.encoded(index), int(FACES.labels[index]), f"x/{index}.png")
    writer.finish()
    return tmp_path / "set"


class Server(ThreadingHTTPServer):
    root: Path
    ranges = True
    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.server.root / self.path.lstrip("/")
        asked = self.headers.get("Range") or ""
        if body:
            self.server.asked.append(f"{path.name} {asked}")
        data = path.read_bytes() if path.is_file() else b""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked) if self.server.ranges else None
        part = data[int(match[1]) : int(match[2] or len(data)) + 1] if match else data
        self.send_response(404 if not path.is_file() else 206 if match else 200)
        self.send_header("Content-Length", str(len(part)))
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if match:
            self.send_header("Content-Range", f"bytes {match[1]}-{int(match[1]) + len(part) - 1}/{len(data)}")
        self.end_headers()
        if body:
            self.wfile.write(part)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.root, made.asked = folder, []
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def check(source: Source) -> None:
    assert list(source.class_names) == list(FACES.class_names)
    assert source.labels.tolist() == FACES.labels.tolist()
    for index in (11, 0, 7, 3):
        assert source.encoded(index) == FACES.encoded(index)


def test_braces() -> None:
    assert expand_braces("s-{08..11}.tar") == [f"s-{number:02d}.tar" for number in range(8, 12)]
    assert expand_braces("{0..1}/{8..9}") == ["0/8", "0/9", "1/8", "1/9"]
    for bad in ("{5..1}", "{0..99999999999999999999999}", "{0..99999}{0..99999}"):
        with pytest.raises(UserError, match=r"files|count up"):
            expand_braces(bad)


def test_files_of_a_folder_a_pattern_and_none(folder: Path) -> None:
    names = [str(folder / f"0000{number}.tar") for number in range(3)]
    assert find_files(str(folder), ".tar") == names
    assert find_files(f"{folder}/*.tar", ".tar") == names
    assert find_files(f"{folder}/{{00000..00002}}.tar", ".tar") == names
    assert len(open_source(f"{folder}/{{00000..00001}}.tar")) == 10
    with pytest.raises(UserError, match="no such file"):
        find_files(f"{folder}/{{00000..00003}}.tar", ".tar")
    with pytest.raises(UserError, match=r"no \.rec files"):
        find_files(str(folder), ".rec")


def test_a_folder_behind_a_url_is_recognised_by_what_it_holds(folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/recognised/shards", recursive=True)
    memory.pipe("/recognised/table/train-00000-of-00001.parquet", b"PAR1")
    assert recognise("memory://recognised/shards") == "shards"
    assert recognise("memory://recognised/table/") == "parquet"
    assert recognise("http://nowhere.invalid/{000..123}.tar") == "shards", "nothing is asked where the name says it"
    with pytest.raises(UserError, match=r"memory://recognised: is of no known format; a URL is that of \.tar"):
        recognise("memory://recognised")


def test_from_memory(folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/faces", recursive=True)
    check(shard_source("memory://faces/{00000..00002}.tar"))
    check(shard_source("memory://faces"))
    check(parquet_source("memory://faces/*.parquet"))
    with pytest.raises(UserError, match="cannot be read"):
        shard_source("memory://faces/none.tar")


def test_images_behind_a_url_have_names_of_their_own(folder: Path, tmp_path: Path) -> None:
    """They stand in lists of what to leave out: one name for all would leave out the whole shard."""
    fsspec.filesystem("memory").put(str(folder), "/named", recursive=True)
    source = shard_source("memory://named")
    names = [source.name(index) for index in range(len(source))]
    assert len(set(names)) == len(names)
    (tmp_path / "exclude.csv").write_text(f"path\n{names[1]}\n")
    left = chosen(source, exclude=read_name_list(tmp_path / "exclude.csv"))
    assert left.indices.tolist() == [index for index in range(len(source)) if index != 1]


def test_from_a_web_server_only_what_is_needed_is_read(server: Server) -> None:
    source = shard_source(f"http://127.0.0.1:{server.server_port}/{{00000..00002}}.tar")
    server.asked.clear()
    check(source)
    begins = [int(source.offsets[index]) for index in (11, 0, 7, 3)]
    assert [line.split("=")[1].split("-")[0] for line in server.asked] == list(map(str, begins))
    check(parquet_source(f"http://127.0.0.1:{server.server_port}/train-00000.parquet"))


def _read(source: ShardSource, index: int) -> bytes:
    return source.encoded(index)


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_processes_read_from_a_web_server(server: Server, how: str) -> None:
    source = shard_source(f"http://127.0.0.1:{server.server_port}/{{00000..00002}}.tar")
    assert _read(source, 2) == FACES.encoded(2)
    with multiprocessing.get_context(how).Pool(2) as pool:
        results = pool.starmap_async(_read, [(source, index) for index in range(12)]).get(timeout=60)
    assert results == [FACES.encoded(index) for index in range(12)]


def test_shards_are_kept_on_this_machine_by_a_chained_url(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fsspec.config.conf, "simplecache", {"cache_storage": str(tmp_path / "kept")})
    source = shard_source(f"simplecache::http://127.0.0.1:{server.server_port}/{{00000..00002}}.tar")
    check(source)
    server.asked.clear()
    check(source)
    assert server.asked == []


def test_a_server_without_ranges_and_one_that_is_gone(server: Server) -> None:
    url = f"http://127.0.0.1:{server.server_port}/00000.tar"
    source = shard_source(url)
    server.ranges = False
    with pytest.raises(ImageError, match="support range requests"):
        source.encoded(1)
    with pytest.raises(UserError, match="support range requests"):
        parquet_source(f"http://127.0.0.1:{server.server_port}/train-00000.parquet")
    server.root = server.root / "away"
    with pytest.raises(ImageError, match=r"00000\.tar"):
        ShardSource(RangeReader([url]), source.storage, source.offsets, source.sizes, source.labels, []).encoded(1)


def test_nobody_at_an_address_is_said() -> None:
    """fsspec's error holds the URL alone; why stands in what caused it."""
    with pytest.raises(UserError, match=r"0\.tar: cannot be read \(Cannot connect to host"):
        shard_source("http://127.0.0.1:1/0.tar")
