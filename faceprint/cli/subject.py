"""What `faceprint eval` of an analysis, `compare` and `doctor` share: options, a set of pairs, and a network."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from faceprint.assignments import split_assignment
from faceprint.cli.output import err
from faceprint.errors import UserError
from faceprint.registry import unknown

if TYPE_CHECKING:
    from faceprint.evaluation.pairs import PairSet
    from faceprint.inference.embedder import Embedder

T = TypeVar("T")

INPUT_KEYS = ("input.mean", "input.std", "input.colour", "input.size")


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


def load_pairs(protocol: str, options: Mapping[str, str]) -> PairSet:
    """As `load_protocol`; missing images are listed on standard error."""
    from faceprint.evaluation.pairs import MissingImagesError
    from faceprint.evaluation.protocols import load_protocol

    try:
        return load_protocol(protocol, options)
    except MissingImagesError as error:
        for line in error.lines():
            err.print(line, markup=False)
        raise


def open_embedder(model: str, options: dict[str, str]) -> Embedder:
    """Open `model`; takes device and the input keys out of `options`."""
    from faceprint.inference import load

    overrides = {key.removeprefix("input."): options.pop(key) for key in INPUT_KEYS if key in options}
    return load(model, input_overrides=overrides or None, device=options.pop("device", "auto"))


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


def checked(function: Callable[..., T], what: str, given: int) -> Callable[..., T]:
    """`function`, whose later arguments are texts that are turned into what it wants. Raises `UserError`."""
    from pydantic import ConfigDict, ValidationError, validate_call

    wrapped = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(function)

    def call(*arguments: Any, **options: Any) -> T:
        try:
            return wrapped(*arguments, **options)
        except ValidationError as error:
            raise UserError(
                "; ".join(_sentence(item, what, parameters(function, given)) for item in error.errors())
            ) from error

    return call


def _sentence(item: Any, what: str, allowed: list[str]) -> str:
    option = ".".join(map(str, item["loc"]))
    if item["type"].startswith("missing"):
        return f"{what} needs the option {option}=…; its options: {', '.join(allowed)}"
    return f"option {option} of {what}: {item['msg']}, got {item['input']!r}"
