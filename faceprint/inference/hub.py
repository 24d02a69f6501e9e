"""Models of the Hugging Face hub, by the names `hf://owner/name`; nothing in them is run."""

from __future__ import annotations

import os
import re
from pathlib import Path

from faceprint.data.extras import require
from faceprint.errors import UserError

SCHEME = "hf://"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_ID = re.compile(rf"({_NAME}/{_NAME})(?:@([A-Za-z0-9._-]+))?(?:/(.+))?")
_PATTERNS = ("*.json", "*.safetensors", "*.onnx", "*.onnx.data", "*.pth", "*.pt", "*.ckpt")
_SUFFIXES = (".onnx", ".safetensors", ".pth", ".pt", ".ckpt")
_MODEL_CARD = "model.json"


def local_model(given: str | os.PathLike[str]) -> Path:
    """Where the model `given` lies: a path as it is, and one of the hub once it was fetched.

    `hf://owner/name[@revision][/file]` is fetched into the hub's own cache, or found there: with `HF_HUB_OFFLINE=1`, as
    without a network, only there. Without `file` it is the repository's folder where that has a `model.json` or models
    in folders, and its only model file where it has one. A plain `owner/name` that is no path here is looked for in the
    cache alone: a mistyped path asks nobody. Raises `UserError` that says what is wrong.
    """
    text = os.fspath(given)
    if text.startswith(SCHEME):
        return _fetched(text, text.removeprefix(SCHEME), only_here=False)
    if Path(text).exists() or _ID.fullmatch(text) is None or text.count("/") != 1 or Path(text).suffix in _SUFFIXES:
        return Path(text)
    try:
        return _fetched(text, text, only_here=True)
    except UserError:
        return Path(text)  # which is not there: its reader says so


def _fetched(shown: str, name: str, *, only_here: bool) -> Path:
    found = _ID.fullmatch(name)
    if found is None or ".." in name:
        raise UserError(f"{shown}: names no model of the hub; write hf://owner/name, also @revision or /file behind it")
    repository, revision, file = found.groups()
    hub = require("huggingface_hub", "hub", "models of the hub")
    options = {"repo_id": repository, "revision": revision, "local_files_only": only_here}
    try:
        if file is not None:
            return Path(hub.hf_hub_download(filename=file, **options))
        return _the_model(shown, Path(hub.snapshot_download(allow_patterns=list(_PATTERNS), **options)))
    except Exception as error:  # those of the client and of what it connects by share no class
        raise error if isinstance(error, UserError) else _unfetched(shown, error) from error


def _unfetched(shown: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:300]
    return UserError(f"{shown}: cannot be fetched from the hub ({reason}); give a file or folder that is here")


def _the_model(shown: str, folder: Path) -> Path:
    """The folder where it is a model or has folders, else its only model file."""
    if (folder / _MODEL_CARD).is_file() or any(path.is_dir() for path in folder.iterdir()):
        return folder
    files = sorted(path.name for path in folder.iterdir() if path.suffix in _SUFFIXES)
    if len(files) != 1:
        there = ", ".join(files) or "no model file"
        raise UserError(f"{shown}: has {there}; name one file: hf://owner/name/FILE")
    return folder / files[0]
