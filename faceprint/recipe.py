"""From a recipe and `key=value` arguments to a configuration, and back.

A recipe is a YAML file with the keys of `faceprint.config.Config`; `key=value` arguments with dotted names override it.
`base: NAME` in a recipe starts it from another one's keys.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from faceprint.assignments import override, parse_yaml, split_assignment
from faceprint.config import SOURCES, Config, Section
from faceprint.errors import UserError
from faceprint.registry import unknown

RECIPES = Path(__file__).parent / "recipes"
"""One YAML file a recipe, in folders by document; names that begin with _ are bases of others."""


def list_recipes() -> list[str]:
    """Names of the bundled recipes, those without a folder first: `quickstart`, …, `sn/resnet50_sn`."""
    files = [path.relative_to(RECIPES) for path in RECIPES.rglob("*.yaml") if path.name[0] != "_"]
    return [path.with_suffix("").as_posix() for path in sorted(files, key=lambda path: (len(path.parts), path))]


def read_recipe(recipe: str) -> dict[str, Any]:
    """The mapping of a bundled recipe by its name, or of a YAML file by its path, upon that of its `base`."""
    if recipe in list_recipes():
        return {"recipe": recipe, **_read_chain(RECIPES / f"{recipe}.yaml", ())}
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        return {"recipe": path.stem, **_read_chain(path, ())}
    raise unknown_recipe(recipe, "recipe (and not a .yaml file)")


def unknown_recipe(given: str, kind: str = "recipe") -> UserError:
    """The error for a name that no bundled recipe has."""
    return unknown(kind, given, list_recipes(), "`faceprint zoo`")


def _read_chain(path: Path, above: tuple[str, ...]) -> dict[str, Any]:
    """The mapping in `path`, its `base` merged in; `above` are the files that came here by their own `base`."""
    chain = (*above, os.path.realpath(path))
    if chain[-1] in above:
        raise UserError(f"{path}: base goes round in a circle: {' -> '.join(chain)}")
    values = parse_yaml(_read_text(path), name=str(path))
    if not isinstance(values, dict):
        raise UserError(f"{path}: a recipe is a mapping of keys to values, got {type(values).__name__}")
    base = values.pop("base", None)
    return values if base is None else _extend(_read_chain(_base_file(base, path), chain), values)


def _base_file(base: Any, path: Path) -> Path:
    """The file that `base: …` in `path` means: a bundled recipe, or a YAML file beside or relative to `path`."""
    if not isinstance(base, str):
        raise UserError(f"{path}: base is a recipe's name or a YAML file, got {base!r}")
    if Path(base).suffix in (".yaml", ".yml"):
        return path.parent / base
    if base in list_recipes():
        return RECIPES / f"{base}.yaml"
    raise unknown_recipe(base, f"base in {path} (and not a .yaml file)")


def _extend(base: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` upon `base`: sections are joined key by key, all else is replaced."""
    for section, given in values.items():
        base = _drop_superseded(base, str(section), given)
        for field in given if isinstance(given, dict) else ():
            base = _drop_superseded(base, f"{section}.{field}", given[field])
    return _join(base, values)


def _join(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    joined = dict(base)
    for key, value in values.items():
        old = joined.get(key)
        joined[key] = _join(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return joined


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a recipe ({error})") from error


def load_config(recipe: str, assignments: Sequence[str] = ()) -> Config:
    """The configuration of `faceprint train RECIPE key=value …`. Raises `UserError` naming the key at fault.

    An assignment that chooses another data source, network or margin drops what the recipe said of the old one; another
    data source drops the licence too;
    `steps` and `epochs` replace each other.
    """
    values = read_recipe(recipe)
    for key, text in map(split_assignment, assignments):
        values = _drop_superseded(values, key, parse_yaml(text, name=key))
    return validate(override(values, assignments))


def _drop_superseded(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    if key in ("steps", "epochs"):
        return {name: old for name, old in values.items() if name not in ("steps", "epochs")}
    section, _, field = key.partition(".")
    old = values.get(section)
    if (
        key not in ("data.source", "network.name", "margin.name")
        or not isinstance(old, dict)
        or old.get(field) == value
    ):
        return values
    kept = {} if section == "data" else {name: old[name] for name in old if name not in ("options", "schedule")}
    if section == "data":  # the recipe's licence was for weights trained on the recipe's images
        values = {name: values[name] for name in values if name != "licence"}
    return {**values, section: kept}


def validate(values: Mapping[str, Any]) -> Config:
    """Plain values -> `Config`; every mistake is named, with what is allowed there."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = [_describe(item, values) for item in error.errors(include_url=False)]
        raise UserError("; ".join(problems)) from error


def _describe(item: Any, values: Mapping[str, Any]) -> str:
    # The discriminator of a union (data.folder.path) is not part of the name a user types.
    location = [str(part) for part in item["loc"] if str(part) not in SOURCES]
    key = ".".join(location)
    if item["type"] == "extra_forbidden":
        allowed = sorted(_section(location[:-1], values).model_fields)
        names = [".".join([*location[:-1], name]) for name in allowed]
        return str(unknown("key", key, names, "`faceprint zoo quickstart`"))
    if item["type"] == "missing":
        return f"key {key!r} is missing"
    if item["type"] == "literal_error":
        allowed = [str(value) for value in _literals(location, values)]
        return str(unknown(f"value of {key}:", item["input"], allowed))
    if item["type"].startswith("union_tag"):
        return str(unknown(f"value of {key}.source:", item["input"].get("source"), list(SOURCES)))
    message = item["msg"].removeprefix("Value error, ")
    return f"{key}: {message} (got {item['input']!r})" if key else message


def _section(location: Sequence[str], values: Mapping[str, Any]) -> type[Section]:
    section: type[Section] = Config
    given: Any = values
    for part in location:
        if part.isdigit():
            given = given[int(part)]
            continue
        given = given.get(part, given)  # the keys of a part's data may stand beside its name
        if part == "data":
            section = SOURCES[given["source"]]
            continue
        annotation: Any = section.model_fields[part].annotation
        options = [*get_args(annotation), annotation]
        section = next(option for option in options if isinstance(option, type) and issubclass(option, Section))
    return section


def _literals(location: Sequence[str], values: Mapping[str, Any]) -> list[Any]:
    names = [part for part in location if not part.isdigit()]
    annotation: Any = _section(names[:-1], values).model_fields[names[-1]].annotation
    while not isinstance(annotation.__args__[0], str):
        annotation = annotation.__args__[0]
    return list(annotation.__args__)


def dump(config: Config) -> str:
    """The resolved configuration as YAML that `load_config` reads back to an equal `Config`."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
