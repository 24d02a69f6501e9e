"""What `faceprint eval`, `compare` and `doctor` share: options, a set of pairs, and a source of embeddings."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from faceprint.assignments import split_assignment
from faceprint.cli.output import err
from faceprint.errors import UserError
from faceprint.registry import unknown

if TYPE_CHECKING:
    from faceprint.evaluation.embeddings import Progress
    from faceprint.evaluation.pairs import PairSet
    from faceprint.evaluation.sources import EmbeddingSource
    from faceprint.inference.embedder import Embedder

    Opener = Callable[[Progress | None], tuple[EmbeddingSource, Embedder | None]]

T = TypeVar("T")

INPUT_KEYS = ("input.mean", "input.std", "input.colour", "input.size")
MODEL_KEYS = ("flip", "batch_size", "device", "cache", "skip_unreadable", *INPUT_KEYS)
"""Options of a network's embeddings."""
SOURCE_KEYS = (*MODEL_KEYS, "names")
"""Options of embeddings from wherever: a network, or a file, which may have names beside it."""
_DATA_KEYS = ("path", "pairs", "folder", "list", "probes")


def read_options(assignments: list[str], allowed: list[str], what: str) -> dict[str, str]:
    """`key=value` words as a dictionary. Raises `UserError` for a key that is not allowed, or given twice."""
    options: dict[str, str] = {}
    for key, value in map(split_assignment, assignments):
        if key not in allowed:
            raise unknown(f"key of {what}", key, allowed)
        if key in options:
            raise UserError(f"{key} is given twice")
        options[key] = value
    return options


def data_name(protocol: str, options: Mapping[str, str]) -> tuple[str, str]:
    """What is tested on, and what part of it, as the user names them."""
    named = next((options[key] for key in _DATA_KEYS if key in options), protocol)
    return named, f"folds {options['folds']}" if "folds" in options else ""


def load_pairs(protocol: str, options: Mapping[str, str], *, no_images: bool = False) -> PairSet:
    """As `load_protocol`; missing images are listed on standard error. With `no_images` none is looked for."""
    from faceprint.evaluation.pairs import MissingImagesError
    from faceprint.evaluation.protocols import load_protocol

    try:
        return load_protocol(protocol, without_images(protocol, options) if no_images else options)
    except MissingImagesError as error:
        for line in error.lines():
            err.print(line, markup=False)
        raise


def without_images(protocol: str, options: Mapping[str, str]) -> dict[str, Any]:
    """The options of a protocol for embeddings that are made. Raises `UserError` where images are given."""
    from faceprint.evaluation.protocols import PROTOCOLS, protocol_options

    if "images" in options:
        raise UserError("images: for a model; embeddings that are made need none")
    absent = protocol in PROTOCOLS and "images" in protocol_options(protocol)
    return {**options, "images": None} if absent else dict(options)


def is_made(model: str) -> bool:
    """Whether MODEL is no network, but embeddings in a file."""
    from faceprint.evaluation.feature_files import is_feature_file

    return is_feature_file(model)


def source_opener(model: str, options: dict[str, str]) -> Opener:
    """Take `SOURCE_KEYS` out of `options`, and check them; what opens `model`, a network or embeddings in a file.

    It gives the source, and the network, None for a file. Raises `UserError` for a key of the other kind.
    """
    given = {key: options.pop(key) for key in SOURCE_KEYS if key in options}
    return _file_opener(model, given) if is_made(model) else _network_opener(model, given)


def _file_opener(model: str, given: dict[str, str]) -> Opener:
    from faceprint.evaluation.feature_files import open_features
    from faceprint.evaluation.sources import FeatureSource

    if wrong := [key for key in given if key != "names"]:
        raise UserError(f"{', '.join(wrong)}: for a model; {model} has embeddings that are made")
    return lambda progress: (FeatureSource(open_features(model, given.get("names")), model), None)


def _network_opener(model: str, given: dict[str, str]) -> Opener:
    from faceprint.evaluation.embeddings import cache_folder
    from faceprint.evaluation.sources import ModelSource

    if "names" in given:
        raise UserError(f"names belongs to embeddings in a file; {model} is a model")
    flip, skip_unreadable = flag("flip", given), flag("skip_unreadable", given, "false")
    batch_size, cache = count("batch_size", given, 64), cache_folder(given.pop("cache", None))

    def opened(progress: Progress | None) -> tuple[EmbeddingSource, Embedder | None]:
        embedder = open_embedder(model, given)
        source = ModelSource(
            embedder, flip, batch_size, cache=cache, skip_unreadable=skip_unreadable, progress=progress
        )
        return source, embedder

    return opened


def open_embedder(model: str, options: Mapping[str, str]) -> Embedder:
    """Open `model` with the device and the input keys of `options`."""
    from faceprint.inference import load

    overrides = {key.removeprefix("input."): options[key] for key in INPUT_KEYS if key in options}
    return load(model, input_overrides=overrides or None, device=options.get("device", "auto"))


def launched() -> AbstractContextManager[None]:
    """The world of processes that a launcher such as torchrun started, if it did."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return nullcontext()
    from faceprint.distributed import world

    return world()


def is_first() -> bool:
    """Whether this process is the one that shows and writes what all have computed."""
    from faceprint.evaluation.ranks import current_world

    return current_world().rank() == 0


def flag(key: str, options: dict[str, str], default: str = "true") -> bool:
    value = options.pop(key, default).lower()
    if value not in ("true", "false"):
        raise UserError(f"{key} is {value!r}; allowed: true, false")
    return value == "true"


def count(key: str, options: dict[str, str], default: int, largest: int = 999_999) -> int:
    value = options.pop(key, str(default))
    if not (value.isascii() and value.isdecimal() and 0 < len(value) < 10 and 0 < int(value) <= largest):
        raise UserError(f"{key} is {value!r}; allowed: a whole number from 1 to {largest}")
    return int(value)


def parameters(function: Callable[..., Any], given: int) -> list[str]:
    """Names of the arguments of `function` after the first `given`."""
    return list(inspect.signature(function).parameters)[given:]


def checked(function: Callable[..., T], what: str, *given: Any) -> Callable[..., T]:
    """`function` of `given` and of texts by name, which are turned into what it wants. Raises `UserError`."""
    from pydantic import ValidationError, validate_call

    wrapped = validate_call(partial(function, *given))

    def call(**options: Any) -> T:
        try:
            return wrapped(**options)
        except ValidationError as error:
            allowed = parameters(function, len(given))
            raise UserError("; ".join(_sentence(item, what, allowed) for item in error.errors())) from error

    return call


def _sentence(item: Any, what: str, allowed: list[str]) -> str:
    option = ".".join(map(str, item["loc"]))
    if item["type"].startswith("missing"):
        return f"{what} needs the option {option}=…; its options: {', '.join(allowed)}"
    return f"option {option} of {what}: {item['msg']}, got {item['input']!r}"
