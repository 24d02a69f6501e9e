"""Reads a set again and compares it with the manifest that was written with it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from faceprint.cores import num_cores
from faceprint.data.class_map import MANIFEST, beside
from faceprint.data.digest import PART, Digest
from faceprint.data.formats import FORMATS, open_source
from faceprint.data.read_ahead import UPDATE_EVERY, read_ahead
from faceprint.errors import UserError


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """`same`: the set holds exactly the labelled images that were written. `differing` are ranges of images, first
    and last, that do not have the checksum they were written with; empty for sets whose order is not kept."""

    same: bool
    images: int
    expected_images: int
    content: str
    expected_content: str
    unreadable: tuple[str, ...]
    differing: tuple[tuple[int, int], ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def verify_set(
    path: str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Read every image of the set at `path` and compare checksums. Raises `UserError` where it has no manifest."""
    manifest = _manifest(Path(path))
    source = open_source(path, manifest["format"])
    digest, unreadable = Digest(), list[str]()
    for image in read_ahead(source, source.class_names, workers=workers or num_cores()):
        if image.error is None:
            digest.add(image.digest)
        else:
            unreadable.append(image.error)
        if progress and (image.index % UPDATE_EVERY == 0 or image.index == len(source) - 1):
            progress(image.index + 1, len(source))
    digest.end()
    same = digest.content == manifest["content"] and not unreadable
    ordered = FORMATS[manifest["format"]].ordered
    return VerifyReport(
        same=same and (not ordered or digest.parts == manifest["parts"]),
        images=digest.images,
        expected_images=manifest["images"],
        content=digest.content,
        expected_content=manifest["content"],
        unreadable=tuple(unreadable),
        differing=_differing(digest.parts, manifest["parts"]) if ordered else (),
    )


def _differing(parts: list[str], expected: list[str]) -> tuple[tuple[int, int], ...]:
    return tuple(
        (number * PART, number * PART + PART - 1)
        for number, (one, other) in enumerate(zip(parts, expected, strict=False))
        if one != other
    )


def _manifest(path: Path) -> dict[str, Any]:
    files = [beside(path, MANIFEST), *(sorted(path.glob(f"*.{MANIFEST}")) if path.is_dir() else [])]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise UserError(f"{path}: has no {files[0].name}; sets that `faceprint data` writes have one")
    try:
        manifest: object = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: cannot be read as a manifest ({error})") from error
    fields = {"format": str, "images": int, "content": str, "parts": list}
    content = cast("dict[str, Any]", manifest) if isinstance(manifest, dict) else {}
    wrong = [name for name, kind in fields.items() if not isinstance(content.get(name), kind)]
    if wrong:
        raise UserError(f"{file}: is no manifest of a set ({', '.join(wrong)} missing or of another kind)")
    return content
