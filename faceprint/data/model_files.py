"""Model files made by others: where they are looked for, and how the known ones are fetched."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from faceprint.errors import UserError
from faceprint.registry import Table

FOLDER_VARIABLE = "FACEPRINT_MODELS"
"""The environment variable that names a folder of model files, searched before anything is downloaded."""

_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A published file that can be fetched; its `sha256` (64 hexadecimal digits) is checked after that."""

    name: str
    url: str
    sha256: str
    licence: str


YUNET = ModelFile(
    name="face_detection_yunet_2023mar.onnx",
    url="https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx",
    sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    licence="MIT",
)
MODEL_FILES = Table("model file", [(file.name, file) for file in (YUNET,)])


def find_model(given: str | os.PathLike[str]) -> Path:
    """The file that `given` names: a path, else a file of that name in `$FACEPRINT_MODELS`, else a known one.

    A known file (`MODEL_FILES`) is taken from PyTorch's cache folder (`$TORCH_HOME/hub/checkpoints`) where
    its checksum is right, and downloaded to there otherwise. A file that the user supplies may be any
    version: its reader decides. Raises `UserError` where there is no such file, `FACEPRINT_MODELS` is no
    folder, or the download fails.
    """
    path = Path(given)
    if path.is_file():
        return path
    if path.name != str(given):
        raise UserError(f"{given}: {'is a folder, give a file' if path.is_dir() else 'no such file'}")
    supplied = _supplied_folder()
    if supplied and (supplied / path.name).is_file():
        return supplied / path.name
    if path.name not in MODEL_FILES:
        where = f" or {FOLDER_VARIABLE}={supplied}" if supplied else f" ({FOLDER_VARIABLE} is not set)"
        raise UserError(f"{given}: no such file here{where}; known by name: {', '.join(MODEL_FILES)}")
    return _fetch(MODEL_FILES[path.name])


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits. Raises `UserError` where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()


def _supplied_folder() -> Path | None:
    given = os.environ.get(FOLDER_VARIABLE)
    if not given:
        return None
    if not Path(given).is_dir():
        raise UserError(f"{FOLDER_VARIABLE}={given}: no such folder; name one that holds model files, or unset it")
    return Path(given)


def _fetch(file: ModelFile) -> Path:
    from torch import hub  # a second or two to import: only when something may have to be downloaded

    target = Path(hub.get_dir()) / "checkpoints" / file.name
    if target.is_file() and file_sha256(target) == file.sha256:
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _default_timeout(_TIMEOUT_SECONDS):
            hub.download_url_to_file(file.url, str(target), hash_prefix=file.sha256, progress=False)
    except (OSError, RuntimeError) as error:  # RuntimeError: the downloader's word for a wrong checksum
        raise UserError(
            f"{file.name}: could not be downloaded from {file.url} ({error}); fetch it by other means and "
            f"give its path, or put it into a folder and set {FOLDER_VARIABLE} to that folder"
        ) from error
    return target


@contextmanager
def _default_timeout(seconds: float) -> Generator[None]:
    """A time limit for each network operation inside: the downloader has none of its own and could hang."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
