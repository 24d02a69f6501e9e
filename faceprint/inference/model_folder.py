"""A model folder: `model.safetensors`, the weights, and `model.json`, the card that says how to use them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from faceprint.errors import UserError
from faceprint.files import write_whole
from faceprint.inference.model_card import MAX_CARD_BYTES, ModelCard, parse_card
from faceprint.models import FaceNetwork, create_model

__all__ = ["ModelCard", "find_model_folder", "load_model", "save_model"]

CARD, TENSORS = "model.json", "model.safetensors"
_SHOWN = 10
_MAX_OPTION = 4096


def find_model_folder(path: str | os.PathLike[str]) -> Path:
    """The model folder that `path` is, or, for a run folder, has in it as `model/`. Raises `UserError`."""
    folder = Path(path)
    for candidate in (folder, folder / "model"):
        if (candidate / CARD).is_file():
            return candidate
    if not folder.is_dir():
        what = "a file" if folder.is_file() else "no such folder"
        raise UserError(f"{folder}: {what}; give a run folder or a model folder")
    if (folder / "config.yaml").is_file():
        raise UserError(f"{folder}: this run has not written {folder / 'model'} yet; let it train up to an evaluation")
    raise UserError(f"{folder}: neither a run folder nor a model folder: it has no {CARD} and no model/{CARD}")


def save_model(folder: str | os.PathLike[str], model: nn.Module, card: ModelCard) -> ModelCard:
    """Write the weights of `model` and its `card` into `folder`, made if need be; each file is whole or not there.

    Returns the card as written, with its `content_hash`. Raises `UserError` where the folder cannot be written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    data = safetensors.torch.save(state)
    card = card.model_copy(update={"content_hash": _content_hash(data)})
    write_whole(Path(folder) / TENSORS, data)
    write_whole(Path(folder) / CARD, card.to_json().encode())
    return card


def load_model(folder: str | os.PathLike[str]) -> tuple[FaceNetwork, ModelCard]:
    """The network of a model folder or run folder, on the CPU, in evaluation mode, without gradients; and its card.

    The weights must be those that the card was written for (`content_hash`) and fit its network exactly. Raises
    `UserError` that names what does not. Nothing in the files is run, and no memory is taken before they fit.
    """
    found = find_model_folder(folder)
    card = parse_card(_read(found / CARD, MAX_CARD_BYTES + 1), found / CARD)
    state = _read_tensors(found / TENSORS, card)
    network = _build(card, found / CARD)
    _check_match(network.state_dict(), state, found / TENSORS)
    wanted = {name: state[name].to(tensor.dtype) for name, tensor in network.state_dict().items()}
    network.load_state_dict(wanted, assign=True)
    return network.eval().requires_grad_(False), card


def _content_hash(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _read(path: Path, limit: int = -1) -> bytes:
    if not path.is_file():
        raise UserError(f"{path}: cannot be read (no such file)")
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def _read_tensors(path: Path, card: ModelCard) -> dict[str, Tensor]:
    data = _read(path)
    if _content_hash(data) != card.content_hash:
        raise UserError(
            f"{path}: its content hash is {_content_hash(data)}, {CARD} was written for {card.content_hash};"
            " the two files are not of one model, or one is damaged: copy the folder again"
        )
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise UserError(f"{path}: not a safetensors file ({error})") from error


def _build(card: ModelCard, path: Path) -> FaceNetwork:
    """The network of `card` without memory for its weights, so that absurd options cost none."""
    if not _is_small(card.options):
        raise UserError(f"{path}: options {str(card.options)[:200]}: numbers go to {_MAX_OPTION}, lists to 64 entries")
    try:
        with torch.device("meta"):
            return create_model(
                card.architecture, embedding_dim=card.embedding_dim, image_size=card.input.size, **card.options
            )
    except Exception as error:  # options from a file may break the builder anywhere: that is the file's fault
        reason = f"{error}" if isinstance(error, UserError) else f"options {card.options}: {error}"
        raise UserError(f"{path}: cannot build {card.architecture!r}: {reason}") from error


def _is_small(value: Any) -> bool:
    """True for options that a builder gets through in a moment: it may loop as often as a number says."""
    if isinstance(value, Mapping):
        return len(value) <= 64 and all(map(_is_small, value.values()))
    if isinstance(value, list):
        return len(value) <= 64 and all(map(_is_small, value))
    return not isinstance(value, int | float) or abs(value) <= _MAX_OPTION


def _check_match(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], path: Path) -> None:
    missing = [f"missing: {name}" for name in expected if name not in given]
    unexpected = [f"not in the network: {name}" for name in given if name not in expected]
    shapes = [
        f"shape of {name}: {tuple(given[name].shape)}, the network has {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in given and given[name].shape != tensor.shape
    ]
    problems = [*missing, *unexpected, *shapes]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise UserError(
            f"{path}: does not fit the network of {CARD}, {len(problems)} tensors differ: "
            f"{'; '.join(problems[:_SHOWN])}{more}"
        )
