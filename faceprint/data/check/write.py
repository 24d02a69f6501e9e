"""The folder that a check leaves: numbers, lists to act on, and two pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from faceprint.data.check.report import Check
from faceprint.data.images import Image, ImageError
from faceprint.data.source import Source
from faceprint.files import write_csv, write_whole
from faceprint.plot_extra import check_plotting, write_figure

SHEET_IDENTITIES, SHEET_IMAGES = 16, 10
_CELL = 80  # pixels
_UNREADABLE = (160, 32, 32)


def write_check(check: Check, folder: Path) -> list[Path]:
    """Write what was found into `folder`; returns the files written.

    `stats.json` (all numbers), `images_per_identity.png`, `contact_sheet.png`, and lists with a header:
    `unreadable.csv`, `damaged.csv`, `duplicates.csv`, `suspects.csv` (columns path, class and why), `single_image.csv`
    (identity), `exclude.csv` (path: what cannot be read, and all but the first of each set of copies within one
    identity). Lists without a line are not written. Raises `UserError` where matplotlib is missing or `folder` cannot
    be written.
    """
    check_plotting()
    written = [folder / "stats.json", folder / "images_per_identity.png", folder / "contact_sheet.png"]
    write_whole(written[0], (json.dumps(check.result, indent=2) + "\n").encode())
    _plot_histogram(check, written[1])
    sheet = cv2.imencode(".png", contact_sheet(check.source)[..., ::-1])[1]
    write_whole(written[2], sheet.tobytes())
    return written + [path for name, columns, rows in _lists(check) if (path := _list(folder / name, columns, rows))]


def _list(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> Path | None:
    lines = list(rows)
    if not lines:
        path.unlink(missing_ok=True)  # of an earlier check
        return None
    write_csv(path, columns, lines)
    return path


def _lists(check: Check) -> Iterator[tuple[str, tuple[str, ...], Iterable[tuple[object, ...]]]]:
    source = check.source
    for name, problems in (("unreadable.csv", check.scan.unreadable), ("damaged.csv", check.scan.damaged or [])):
        yield name, ("path", "class", "reason"), ((*_who(source, index), reason) for index, reason in problems)
    yield "duplicates.csv", ("path", "class", "group", "kind", "across"), _duplicates(check)
    yield "suspects.csv", ("path", "class", "why", "value"), _suspects(check)
    single = np.flatnonzero(check.counts == 1).tolist()
    yield "single_image.csv", ("identity",), ((source.class_names[label],) for label in single)
    yield "exclude.csv", ("path",), ((source.name(index),) for index in excluded(check))


def excluded(check: Check) -> list[int]:
    """Indices of the images to leave out: unreadable ones, and the later copies of an image of the same identity.

    Copies under several identities are left for a person to judge: one of the labels is wrong.
    """
    found = {index for index, _ in check.scan.unreadable}
    for group in [*check.copies, *check.lookalikes]:
        labels = check.source.labels[group]
        first = np.unique(labels, return_index=True)[1]
        found.update(np.delete(group, first).tolist())
    return sorted(found)


def contact_sheet(source: Source) -> Image:
    """Identities as rows, spread over the set, with their first images; what cannot be read is dark red."""
    order = np.argsort(source.labels, kind="stable")
    starts = np.searchsorted(source.labels[order], np.arange(len(source.class_names) + 1))
    num_rows = min(SHEET_IDENTITIES, len(source.class_names))
    chosen = np.linspace(0, len(source.class_names) - 1, num_rows).astype(np.int64)
    sheet = np.full((num_rows * _CELL, SHEET_IMAGES * _CELL, 3), 255, np.uint8)
    for row, label in enumerate(chosen.tolist()):
        own = order[starts[label] : starts[label + 1]][:SHEET_IMAGES]
        for column, index in enumerate(own.tolist()):
            sheet[row * _CELL : (row + 1) * _CELL, column * _CELL : (column + 1) * _CELL] = _cell(source, index)
    return sheet


def _cell(source: Source, index: int) -> Image:
    cell = np.full((_CELL, _CELL, 3), 255, np.uint8)
    try:
        image, _ = source[index]
    except ImageError:
        cell[:] = _UNREADABLE
        return cell
    scale = _CELL / max(image.shape[:2])
    height, width = (max(1, min(_CELL, round(side * scale))) for side in image.shape[:2])
    top, left = (_CELL - height) // 2, (_CELL - width) // 2
    cell[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return cell


def _duplicates(check: Check) -> Iterator[tuple[object, ...]]:
    both = [
        (kind, group) for kind, groups in (("exact", check.copies), ("similar", check.lookalikes)) for group in groups
    ]
    for number, (kind, group) in enumerate(both, 1):
        for index in group.tolist():
            yield *_who(check.source, index), number, kind, int(check.is_across(group))


def _suspects(check: Check) -> Iterator[tuple[object, ...]]:
    facts = check.scan.facts
    reasons: list[tuple[str, NDArray[np.bool_], str]] = [
        ("blank", facts["blank"], "bytes"),
        ("red and blue look swapped", check.blue, "redness"),
        ("does not look like an aligned crop", check.unaligned, "alignment"),
    ]
    for why, chosen, measure in reasons:
        for index in np.flatnonzero(chosen).tolist():
            yield *_who(check.source, index), why, round(float(facts[measure][index]), 3)


def _who(source: Source, index: int) -> tuple[str, str]:
    return source.name(index), source.class_names[int(source.labels[index])]


def _plot_histogram(check: Check, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    edges = np.unique(np.geomspace(1, check.counts.max() + 1, 60).astype(np.int64))
    axes.hist(check.counts, bins=(edges - 0.5).tolist(), color="#0072b2")
    axes.set(xscale="log", yscale="log", xlabel="images of an identity", ylabel="identities")
    axes.set_title(f"{len(check.source):,} images of {len(check.counts):,} identities", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    write_figure(figure, path)
