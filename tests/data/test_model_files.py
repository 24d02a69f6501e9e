"""Where model files are looked for, and what happens when they have to be fetched."""

from __future__ import annotations

import hashlib
import socket

import pytest

from faceprint.data import model_files
from faceprint.data.model_files import FOLDER_VARIABLE, YUNET, ModelFile, file_sha256, find_model
from faceprint.errors import UserError
from faceprint.registry import Table

CONTENT = b"a published network"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No file of this machine is found, and PyTorch's cache is empty."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def publish(monkeypatch, url, content=CONTENT):
    file = ModelFile(name="net.onnx", url=url, sha256=hashlib.sha256(content).hexdigest(), licence="MIT")
    monkeypatch.setattr(model_files, "MODEL_FILES", Table("model file", [(file.name, file)]))


def publish_file(monkeypatch, tmp_path, content=CONTENT):
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "net.onnx").write_bytes(content)
    publish(monkeypatch, (tmp_path / "server" / "net.onnx").as_uri())


def test_a_path_is_taken_as_it_is(tmp_path):
    path = tmp_path / "mine.onnx"
    path.write_bytes(b"x")
    assert find_model(str(path)) == path
    assert find_model(path) == path


def test_the_users_folder_comes_before_a_download(tmp_path, monkeypatch):
    publish_file(monkeypatch, tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "net.onnx").write_bytes(b"another version")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "models"))
    assert find_model("net.onnx") == tmp_path / "models" / "net.onnx"
    assert not (tmp_path / "torch").exists()


def test_a_known_file_is_downloaded_once_and_checked(tmp_path, monkeypatch):
    publish_file(monkeypatch, tmp_path)
    path = find_model("net.onnx")
    assert path == tmp_path / "torch" / "hub" / "checkpoints" / "net.onnx"
    assert path.read_bytes() == CONTENT
    (tmp_path / "server" / "net.onnx").unlink()
    assert find_model("net.onnx") == path  # from the cache: the server has it no more


def test_a_damaged_cache_is_replaced(tmp_path, monkeypatch):
    publish_file(monkeypatch, tmp_path)
    find_model("net.onnx").write_bytes(b"torn")
    assert find_model("net.onnx").read_bytes() == CONTENT


def test_another_file_than_the_published_one_is_refused(tmp_path, monkeypatch):
    publish_file(monkeypatch, tmp_path, content=b"something else")
    with pytest.raises(UserError, match=r"net\.onnx: could not be downloaded .*invalid hash"):
        find_model("net.onnx")
    assert list((tmp_path / "torch" / "hub" / "checkpoints").iterdir()) == []


def test_without_a_network_the_message_says_where_to_put_the_file(monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        publish(monkeypatch, f"http://127.0.0.1:{unused.getsockname()[1]}/net.onnx")
        with pytest.raises(UserError, match=f"could not be downloaded.*give its path.*{FOLDER_VARIABLE}") as caught:
            find_model("net.onnx")
    assert "\n" not in str(caught.value)


def test_a_server_that_says_nothing_does_not_hang_us(monkeypatch):
    monkeypatch.setattr(model_files, "_TIMEOUT_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        publish(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}/net.onnx")
        with pytest.raises(UserError, match="timed out"):
            find_model("net.onnx")
    assert socket.getdefaulttimeout() is None


def test_what_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no such file$"):
        find_model(tmp_path / "absent.onnx")
    with pytest.raises(UserError, match="is a folder"):
        find_model(tmp_path)
    with pytest.raises(UserError, match=f"{FOLDER_VARIABLE} is not set.*{YUNET.name}"):
        find_model("absent.onnx")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=f"{FOLDER_VARIABLE}=.*nowhere: no such folder"):
        find_model(YUNET.name)


def test_file_sha256(tmp_path):
    (tmp_path / "big").write_bytes(b"ab" * 1_000_000)
    assert file_sha256(tmp_path / "big") == hashlib.sha256(b"ab" * 1_000_000).hexdigest()
    with pytest.raises(UserError, match="absent: cannot be read"):
        file_sha256(tmp_path / "absent")
