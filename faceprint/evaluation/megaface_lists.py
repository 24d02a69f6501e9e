"""Lists of the MegaFace devkit: probes, distractors, and images that are noise."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from faceprint.errors import UserError

_MOST_LIST = 1 << 28


@dataclass(frozen=True)
class NoiseMatches:
    """Of `lines` in a noise list `found` name an image of the set; `rows` are those images."""

    lines: int
    found: int
    rows: tuple[int, ...]

    def summary(self) -> dict[str, int]:
        return {"lines": self.lines, "matched": self.found, "images": len(self.rows)}


def match_noises(names: Sequence[str], noises: Sequence[str]) -> NoiseMatches:
    """The rows of `names` that a noise list names.

    Names differ between releases of the lists: compared are as many last parts of the path as the noise has, without
    extension, with case ignored, and blanks and `_` the same. FaceScrub's list names files, MegaFace's the last three
    parts of a path.
    """
    wanted = [_normal(noise) for noise in noises]
    rows: dict[tuple[str, ...], list[int]] = {key: [] for key in wanted}
    lengths = {len(key) for key in wanted}
    for row, name in enumerate(names):
        parts = _normal(name)
        for length in lengths & set(range(1, len(parts) + 1)):
            if (found := rows.get(parts[-length:])) is not None:
                found.append(row)
    hit = sorted({row for found in rows.values() for row in found})
    return NoiseMatches(len(wanted), sum(bool(rows[key]) for key in wanted), tuple(hit))


def _normal(name: str) -> tuple[str, ...]:
    path = PurePosixPath(re.sub(r"[\s_]+", "_", name.strip().replace("\\", "/")).casefold())
    return path.with_suffix("").parts if path.suffix in (".png", ".jpg", ".jpeg", ".bmp") else path.parts


def read_noises(path: Path) -> list[str]:
    """The names of a noise list: a line each, of several fields apart by tabs the second; `#` begins a comment."""
    lines = [line.strip() for line in _text(path).splitlines()]
    fields = [line.split("\t") for line in lines if line and not line.startswith("#")]
    names = [each[1].strip() if len(each) > 1 else each[0] for each in fields]
    if not names:
        raise UserError(f"{path}: names no images")
    return names


def read_probe_list(path: Path) -> tuple[list[str], list[str]]:
    """Paths and identities of a list of FaceScrub or FG-NET: {"path": […], "id": […]}. Raises `UserError`."""
    content = _json(path)
    paths, ids = _texts(content.get("path"), path, "path"), _texts(content.get("id"), path, "id")
    if len(paths) != len(ids):
        raise UserError(f"{path}: {len(paths):,} paths and {len(ids):,} ids; each image has both")
    return paths, ids


def read_distractor_list(path: Path) -> list[str]:
    """Paths of the devkit's list of distractors: {"path": […]}. Raises `UserError`."""
    return _texts(_json(path).get("path"), path, "path")


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_LIST:
            raise UserError(f"{path}: {path.stat().st_size:,} bytes; a list has at most {_MOST_LIST:,}")
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error})") from error


def _json(path: Path) -> Mapping[str, object]:
    try:
        content: object = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f'{path}: must be an object with "path"')
    return cast("Mapping[str, object]", content)


def _texts(given: object, path: Path, key: str) -> list[str]:
    values = cast("list[object]", given) if isinstance(given, list) else []
    if not values or not all(isinstance(value, str | int) for value in values):
        raise UserError(f"{path}: {key!r} must be a list of texts, at least one")
    return [str(value) for value in values]
