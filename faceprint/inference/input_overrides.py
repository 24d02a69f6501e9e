"""What the user says about a model's input, as texts: `input.colour=bgr`, `input.mean=0` and so on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from faceprint.data.pixels import InputSpec, parse_size
from faceprint.errors import UserError
from faceprint.registry import Table, unknown

DEFAULTS = InputSpec()
"""What an ONNX file takes that does not say: RGB, (x - 127.5) / 127.5, 112x112 where its size is open."""


def _colour(text: str) -> str:
    if text not in ("rgb", "bgr"):
        raise unknown("input.colour", text, ["rgb", "bgr"])
    return text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"{text!r} is not a number; give one in units of 0..255 pixels, such as 127.5 or 0") from error


FIELDS: Table[Callable[[str], Any]] = Table(
    "input key", [("colour", _colour), ("mean", _number), ("std", _number), ("size", parse_size)]
)
"""Name of a field of `InputSpec` -> its value from text."""


def parse_overrides(overrides: Mapping[str, str]) -> dict[str, Any]:
    """Fields of `InputSpec` from texts; keys of `FIELDS`. Raises `UserError` naming key, value and what is allowed."""
    fields: dict[str, Any] = {}
    for key, text in overrides.items():
        parse = FIELDS[key]
        try:
            fields[key] = parse(text)
        except UserError as error:
            raise UserError(f"input.{key}={text}: {error}") from error
    InputSpec(**fields)  # refuses what no image could be prepared with
    return fields


def refuse_contradiction(overrides: Mapping[str, str], spec: InputSpec, name: str) -> None:
    """Raise `UserError` where `overrides` differ from what the model `name` says of itself, `spec`."""
    own = asdict(spec)
    for key, value in parse_overrides(overrides).items():
        if own[key] != value:
            stated = "x".join(map(str, spec.size)) if key == "size" else own[key]
            raise UserError(
                f"input.{key}={overrides[key]}: {name} says itself that it takes input.{key}={stated}; leave it out"
            )
