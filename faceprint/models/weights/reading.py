"""Files of weights, read with suspicion: nothing in them is run."""

from __future__ import annotations

import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from faceprint.errors import UserError
from faceprint.models.weights.checkpoint import Checkpoint
from faceprint.models.weights.onnx_file import read_onnx
from faceprint.registry import Table

_NESTED = ("state_dict", "model_state_dict", "state_dict_backbone", "model", "backbone", "net")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.int8, torch.int32, torch.int64)
_SHOWN = 5


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a .pt, .pth, .ckpt, .safetensors or .onnx file, or a model folder's weights.

    Raises `UserError` for a file that cannot be read, that would run code, and that holds other things than finite
    numbers.
    """
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{file}: cannot be read (no such file)")
    checkpoint = READERS[file.suffix.lower()](file)
    _check(checkpoint.tensors, file)
    return checkpoint


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        return Checkpoint(tensors=safetensors.torch.load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise UserError(f"{path}: not a safetensors file ({error})") from error


def _read_torch(path: Path) -> Checkpoint:
    """The state dict in a file that torch.save wrote; it may be nested in a training checkpoint."""
    _refuse_archives(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        reason = (
            f"asks for {asked[1]}, which weights do not need" if asked else "is damaged, or holds more than weights"
        )
        raise UserError(
            f"{path}: refused, and nothing in it was run: it {reason}; have whoever made it save the"
            " state dict alone, or as .safetensors"
        ) from error
    except Exception as error:  # torch raises whatever the bytes of a damaged file lead to
        raise UserError(f"{path}: not a file of weights ({' '.join(str(error).split())[:200]})") from error
    return Checkpoint(tensors=_unwrap(content, path))


def _refuse_archives(path: Path) -> None:
    """Refuse tar files, which releases of torch before 2.6 unpickle without restraint, and compressed content.

    torch.save never compresses; a small file that unpacks to a huge one is no honest one.
    """
    if tarfile.is_tarfile(path):
        raise UserError(f"{path}: refused: of the tar format of torch's first releases; have its maker save it anew")
    try:
        with zipfile.ZipFile(path) as archive:
            compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # the older format, or damaged: torch.load says which
    if compressed:
        raise UserError(f"{path}: not a file of torch.save: its content is compressed")


def _unwrap(content: Any, path: Path) -> Any:
    while isinstance(content, Mapping) and not any(isinstance(value, Tensor) for value in content.values()):
        inner = next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            found = ", ".join(str(key)[:40] for key in list(content)[:_SHOWN]) or "nothing"
            raise UserError(f"{path}: holds {found}; weights are tensors, at the top or under {', '.join(_NESTED)}")
        content = inner
    return content


READERS: Table[Callable[[Path], Checkpoint]] = Table(
    "suffix of a file of weights",
    [
        *((suffix, _read_torch) for suffix in (".pt", ".pth", ".ckpt", ".bin", ".tar", ".pkl")),
        (".safetensors", _read_safetensors),
        (".onnx", read_onnx),
    ],
)


def _check(content: Any, path: Path) -> None:
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds {type(content).__name__}; weights are named tensors")
    for name, value in content.items():
        problem = _problem(name, value)
        if problem:
            raise UserError(f"{path}: {str(name)[:80]!r} {problem}")


def _problem(name: Any, value: Any) -> str | None:
    if not isinstance(name, str) or not isinstance(value, Tensor):
        return f"is {type(value).__name__}; weights are named tensors"
    if value.layout != torch.strided or value.device.type != "cpu" or value.dtype not in _FLOATS + _INTEGERS:
        return f"is a tensor of {value.dtype} ({value.layout}, {value.device.type}), not of plain numbers"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"claims {value.numel():,} numbers and holds fewer"
    if not bool(torch.isfinite(value).all()):
        return "holds numbers that are not finite"
    return None
