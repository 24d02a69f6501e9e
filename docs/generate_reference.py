"""Write the pages of `docs/reference/` from the program itself: `make reference`."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import typer
from typer.cli import get_docs_for_click

from faceprint.cli import app
from faceprint.config import Config, Network
from faceprint.evaluation.protocols import PROTOCOLS
from faceprint.evaluation.result import Result
from faceprint.models import list_models
from faceprint.models.names import FAMILIES
from faceprint.models.norms import NORMS
from faceprint.models.outputs import OUTPUTS
from faceprint.registry import Table
from faceprint.training.losses import LOSSES

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by `make reference` from the program; do not edit. -->\n\n"
MODULES = (
    "",
    ".models",
    ".margins",
    ".classifier",
    ".data",
    ".inference",
    ".inference.gallery",
    ".evaluation.metrics",
    ".errors",
)
SHOWN = ("__init__", "__call__", "__len__", "__getitem__")
OF_NETWORKS: dict[str, Table[Any]] = {"output": OUTPUTS, "norm": NORMS}


def pages() -> dict[str, str]:
    """File name -> text of every reference page; the same program makes the same text."""
    made = {"commands.md": commands(), "configuration.md": configuration(), "python.md": python()}
    written = {name: NOTE + text.rstrip() + "\n" for name, text in made.items()}
    return {**written, "result.schema.json": json.dumps(Result.model_json_schema(), indent=2) + "\n"}


def commands() -> str:
    """The help of each command."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="faceprint", title="Commands")
    text = re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+\n", "", text)  # cut to 45 letters each; the headings name them
    text = re.sub(r"(\*\*Options\*\*:\n\n)?\* `--help`: .*\n\n?", "", text)
    text = re.sub(r"(\* .*\n)(?=#)", r"\1\n", text)
    text = re.sub(r"\[bold\](.*?)\[/bold\]", r"**\1**", text)
    text = re.sub(r"^(Example|Start with): (.*)$", r"\1: `\2`", text, flags=re.MULTILINE)
    return re.sub(r"^\$ (.*)$", lambda usage: re.sub(r"[{}]", "", usage[1]), text, flags=re.MULTILINE)


def configuration() -> str:
    """The keys of a recipe, section by section, and the names that they take."""
    schema = Config.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    parts = [
        "# Configuration\n\nThe keys of a recipe (YAML), and of the `key=value` arguments of `faceprint train`."
        " A key in a section is written\n`section.key`. An unknown key is an error."
        f" `faceprint zoo NAME` shows a recipe with all its values.\n\n{_table(schema, '', definitions)}"
    ]
    for key, value in schema["properties"].items():
        for reference in _references(value):
            section = definitions[reference]
            source = section["properties"].get("source", {}).get("const")
            title = f"`{key}`" + (f", `source: {source}`" if source else "")
            parts.append(f"## {title}\n\n{section.get('description', '')}\n\n{_table(section, f'{key}.', definitions)}")
    parts.append("## Names\n\nWhat `name` and `protocol` keys take, with the options of each and their defaults.")
    parts += [_names(table) for table in (FAMILIES, LOSSES, PROTOCOLS)]
    parts.append(
        f"Published names of networks, each a family with options: {', '.join(f'`{name}`' for name in list_models())}."
    )
    parts += [f"`{key}`: {', '.join(f'`{name}`' for name in table)}." for key, table in OF_NETWORKS.items()]
    return "\n\n".join(parts)


def python() -> str:
    """Signatures and docstrings of the public names."""
    parts = ["# Python"]
    seen: set[int] = set()
    for name in MODULES:
        module = importlib.import_module(f"faceprint{name}")
        parts.append(f"## `{module.__name__}`\n\n{_prose(module)}")
        for public, value in _public(module):
            if id(value) in seen:
                continue
            seen.add(id(value))
            describe = _describe_class if inspect.isclass(value) else _describe_function
            parts.append(f"### `{public}`\n\n{describe(value)}")
    return "\n\n".join(parts)


def _references(value: dict[str, Any]) -> list[str]:
    """Names of the sections that a key may hold; none for a plain value."""
    choices = [value, value.get("items", {}), *value.get("oneOf", ()), *value.get("anyOf", ())]
    return [choice["$ref"].rpartition("/")[2] for choice in choices if "$ref" in choice]


def _table(section: dict[str, Any], prefix: str, definitions: dict[str, Any]) -> str:
    rows = ["| key | type | default | |", "|---|---|---|---|"]
    rows += [" | ".join(row) for row in _rows(section, prefix, definitions)]
    return "\n".join(rows)


def _rows(section: dict[str, Any], prefix: str, definitions: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, value in section["properties"].items():
        references = _references(value)
        if references and not prefix:
            text = value.get("description") or definitions[references[0]].get("description", "")
            yield f"| `{name}` | section", "", f"{text} See below. |"
            continue
        default = "required" if name in section.get("required", ()) else f"`{_plain(value.get('default'))}`"
        text = " ".join(value.get("description", "").split()).replace("|", "\\|")
        yield f"| `{prefix}{name}`", "section" if references else _type(value), default, f"{text} |"
        for reference in references:
            yield from _rows(definitions[reference], f"{prefix}{name}.", definitions)


def _type(value: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "anyOf" in value:
        return " or ".join(map(_type, value["anyOf"]))
    if "const" in value or "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value.get("enum", [value.get("const")]))
    if "prefixItems" in value:
        return f"{len(value['prefixItems'])} x {_type(value['prefixItems'][0])}"
    if value.get("type") == "array":
        return f"list of {_type(value['items'])}"
    words = {"integer": "whole number", "boolean": "true or false", "object": "mapping", "string": "text"}
    kind = str(value["type"])
    word = "path" if value.get("format") == "path" else words.get(kind, kind)
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return word + ",".join(f" {sign} {value[key]:g}" for key, sign in signs.items() if key in value)


def _plain(value: Any) -> str:
    """A value as YAML has it."""
    if isinstance(value, tuple):
        return str([*value])
    return json.dumps(value) if value in (None, "") or isinstance(value, bool) else str(value)


def _names(table: Table[Callable[..., Any]]) -> str:
    rows = [f"| {table.kind} | options |", "|---|---|"]
    rows += [f"| `{name}` | {', '.join(_options(factory))} |" for name, factory in table.items()]
    return "\n".join(rows)


def _options(factory: Callable[..., Any]) -> Iterator[str]:
    """What a user may give: the arguments that are not bound already and have no key of their own."""
    if inspect.isclass(factory) and "__init__" not in vars(factory):
        return
    taken = {*Network.model_fields, "num_classes"}.union(factory.keywords if isinstance(factory, partial) else ())
    for name, parameter in inspect.signature(factory).parameters.items():
        if name not in taken:
            given = "" if parameter.default is parameter.empty else f"={_plain(parameter.default)}"
            yield f"`{name}{given}`"


def _public(module: Any) -> Iterator[tuple[str, Any]]:
    for name in getattr(module, "__all__", vars(module)):
        value = getattr(module, name)
        ours = hasattr(module, "__all__") or getattr(value, "__module__", "") == module.__name__
        if ours and not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value)):
            yield name, value


def _prose(value: Any) -> str:
    """The docstring, its examples fenced."""
    return re.sub(
        r"^>>> (?:.+\n?)+", lambda example: _code(example[0].rstrip()), inspect.getdoc(value) or "", flags=re.M
    )


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _describe_function(function: Callable[..., Any]) -> str:
    lines, node = _source(function)
    return f"{_code(_head(lines, node))}\n\n{_prose(function)}"


def _describe_class(kind: type) -> str:
    """The class as in a stub: its fields and public methods, then what the docstrings say."""
    lines, node = _source(kind)
    stub, methods = [_head(lines, node)], list[str]()
    for child in node.body[1:]:
        if isinstance(child, ast.AnnAssign | ast.Expr):  # a field, or the text below it
            stub += lines[child.lineno - 1 : child.end_lineno]
        elif isinstance(child, ast.FunctionDef) and (child.name in SHOWN or not child.name.startswith("_")):
            stub.append(f"{_head(lines, child).removesuffix(' ...')} ...")
            text = ast.get_docstring(child)
            methods += [f"`{child.name}`: {text}"] if text else []
    return "\n\n".join([_code("\n".join(stub)), _prose(kind), *methods])


def _source(value: Any) -> tuple[list[str], Any]:
    text = textwrap.dedent(inspect.getsource(value))
    return text.splitlines(), ast.parse(text).body[0]


def _head(lines: list[str], node: Any) -> str:
    """The lines from the first decorator to the colon, as they are formatted in the source."""
    first = min(part.lineno for part in [node, *node.decorator_list])
    return "\n".join(lines[first - 1 : max(node.lineno, node.body[0].lineno - 1)])


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
