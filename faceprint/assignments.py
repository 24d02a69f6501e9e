"""Values from text: YAML that cannot run code or grow without bound, and `key=value` arguments with dotted names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from faceprint.errors import UserError


class _Loader(yaml.SafeLoader):
    """YAML with 1e-4 as a number (YAML 1.1 wants 1.0e-4) and a repeated key as an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f"key given twice: {', '.join(repeated)}", node.start_mark
            )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)
MAX_YAML_BYTES = 1_000_000


def parse_yaml(text: str, *, name: str) -> Any:
    """Plain values from YAML text; never runs code. Aliases are refused: nested ones grow without bound."""
    if len(text) > MAX_YAML_BYTES:
        raise UserError(f"{name}: {len(text):,} characters; a recipe has at most {MAX_YAML_BYTES:,}")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_Loader)):
            raise UserError(f"{name}: YAML aliases (*name) are not supported; write the value out")
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from error


def split_assignment(assignment: str) -> tuple[str, str]:
    """`key=value` -> (key, value); anything else is an error that shows the form."""
    key, separator, value = assignment.partition("=")
    if not separator or not key.strip():
        raise UserError(f"got {assignment!r}; further arguments have the form key=value, such as steps=100")
    return key.strip(), value


def override(values: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """`values` with `a.b=value` assignments put in; values are YAML. The argument is not changed."""
    for assignment in assignments:
        key, text = split_assignment(assignment)
        values = _put(values, key.split("."), parse_yaml(text, name=assignment), key)
    return values


def _put(values: Any, keys: list[str], value: Any, name: str) -> Any:
    if isinstance(values, list):
        if not keys[0].isdigit() or int(keys[0]) >= len(values):
            raise UserError(f"{name}: {keys[0]!r} is not an index 0..{len(values) - 1} of that list")
        position = int(keys[0])
        rest = _put(values[position], keys[1:], value, name) if len(keys) > 1 else value
        return [*values[:position], rest, *values[position + 1 :]]
    if values is not None and not isinstance(values, dict):
        raise UserError(f"{name}: {keys[0]!r} is inside {values!r}, which has no keys")
    values = dict(values or {})
    values[keys[0]] = _put(values.get(keys[0]), keys[1:], value, name) if len(keys) > 1 else value
    return values


def flatten(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every key of nested mappings."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
