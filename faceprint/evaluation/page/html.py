"""One page of results that needs nothing besides itself."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2

from faceprint import __version__
from faceprint.data.extras import require
from faceprint.data.images import IMAGE_SUFFIXES, ImageError, read_image
from faceprint.evaluation.page.pictures import Picture
from faceprint.evaluation.page.tables import (
    Comparison,
    errors_text,
    figure_text,
    interval_methods,
    interval_text,
    method_text,
)
from faceprint.evaluation.result import Figure, Result, WorstPair
from faceprint.files import write_whole

THUMBNAIL_PIXELS = 96
MAX_PAIRS = 48
"""Worst pairs shown of one model."""
MAX_PROVENANCE = 4000


@dataclass(frozen=True)
class ShownPair:
    """A worst pair with its two thumbnails as `data:` URLs, None for one that was not found."""

    pair: WorstPair
    thumbnails: tuple[str | None, str | None]


def write_page(
    comparison: Comparison,
    drawn: Sequence[Picture],
    output: Path,
    *,
    images: Path | None = None,
    title: str = "Results",
) -> int:
    """Write the page as one HTML file: no script, no request, pictures and thumbnails inside.

    `images` is the folder in which the worst pairs' images are looked for, below it alone; None: no thumbnails. Returns
    how many of these were not found there. Text from results is escaped, and the page's own policy forbids scripts.
    Raises `UserError` where Jinja2 is not installed or `output` cannot be written.
    """
    jinja2 = require("jinja2", "report", "pages of results")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        figure=figure_text, interval=interval_text, method=method_text, errors=errors_text, url=svg_url
    )
    shown = [[_shown(pair, images) for pair in result.worst_pairs[:MAX_PAIRS]] for result in comparison.results]
    text = environment.from_string(
        (files("faceprint.evaluation.page") / "page.html").read_text(encoding="utf-8")
    ).render(
        title=title,
        comparison=comparison,
        models=list(zip(comparison.names, comparison.results, shown, strict=True)),
        best=best(comparison),
        pictures=drawn,
        has_images=images is not None,
        provenance=provenance_text,
        interval_methods=interval_methods,
        version=__version__,
    )
    write_whole(output, text.encode(errors="replace"))
    missing = [1 for each in shown for pair in each for url in pair.thumbnails if url is None]
    return len(missing) if images is not None else 0


def best(comparison: Comparison) -> list[float | None]:
    """The best rate of each column, which the page prints bold; None in a column of one figure, or of no rates.

    That is the highest, of rates of errors the lowest.
    """
    columns = [[figure for figure in column if figure is not None] for column in zip(*comparison.rows, strict=True)]
    return [_best(column) if len(column) > 1 and column[0].unit == "fraction" else None for column in columns]


def _best(column: Sequence[Figure]) -> float:
    chosen = min if column[0].name.startswith(("FN", "FM", "FP", "EER")) else max
    return chosen(figure.value for figure in column)


def svg_url(picture: Picture) -> str:
    """The picture as a `data:` URL: as an image, an SVG runs nothing and its names meet no others."""
    return f"data:image/svg+xml;base64,{base64.b64encode(picture.svg).decode()}"


def provenance_text(result: Result) -> str:
    """A model card's provenance as short JSON."""
    kept: dict[str, Any] = result.about_model.provenance
    text = json.dumps(kept, indent=1, ensure_ascii=False) if kept else ""
    return text if len(text) <= MAX_PROVENANCE else f"{text[:MAX_PROVENANCE]} …"


def _shown(pair: WorstPair, images: Path | None) -> ShownPair:
    return ShownPair(pair, (_thumbnail(pair.first, images), _thumbnail(pair.second, images)))


def _thumbnail(name: str, images: Path | None) -> str | None:
    """None for an image that is not a file below `images`, whatever the name says, or cannot be read."""
    if images is None or "\0" in name:
        return None
    root = images.resolve()
    try:
        candidates = [(root / f"{name}{suffix}").resolve() for suffix in ("", *IMAGE_SUFFIXES)]
        path = next((path for path in candidates if path.is_relative_to(root) and path.is_file()), None)
        image = None if path is None else read_image(path)
    except (ImageError, OSError):
        return None
    if image is None:
        return None
    factor = THUMBNAIL_PIXELS / max(image.shape[:2])
    size = [max(1, round(side * factor)) for side in image.shape[1::-1]]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    assert done, "a JPEG of 96 pixels can be made"
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
