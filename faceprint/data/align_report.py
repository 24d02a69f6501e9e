"""`align.json`: what the crops of a folder were made with, and what became of each photograph."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from faceprint.errors import UserError
from faceprint.files import write_whole

REPORT_FILE = "align.json"
"""Lies in the destination: {"settings": {...}, "report": {...} or null while the first run is not over}."""


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """What decides which crop is made and how it looks. All crops of one folder share it."""

    source: str
    size: tuple[int, int]
    choose: str
    detector: str
    detector_sha256: str | None
    score_threshold: float
    refine: bool
    image_format: str


@dataclass(frozen=True, kw_only=True)
class AlignReport:
    """What one run did. Names are paths relative to the source folder, with forward slashes, or what another source
    calls its images.

    photographs = found + already_done + len(not_found) + len(unreadable). `unreadable` holds (name, reason).
    `other_files` were not looked at: hidden, no plain files, or with the extension of no image.
    """

    photographs: int
    found: int
    already_done: int
    not_found: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]
    other_files: int
    seconds: float

    @property
    def photographs_per_second(self) -> float:
        """Photographs that this run worked on, over all the time it took."""
        return (self.photographs - self.already_done) / max(self.seconds, 1e-9)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the rate included."""
        return {**asdict(self), "photographs_per_second": round(self.photographs_per_second, 1)}


def claim(destination: Path, settings: CropSettings) -> None:
    """Make `destination` and write `settings` into it, so that a later run can tell what its crops are.

    Raises `UserError`, with nothing written, where it holds files already and they are not crops of the same
    settings, or where it cannot be written.
    """
    try:
        earlier = _earlier_settings(destination)
        occupied = destination.is_dir() and any(name != REPORT_FILE for name in os.listdir(destination))
    except OSError as error:
        raise UserError(f"{destination}: cannot be read ({error.strerror or error})") from error
    now = json.loads(json.dumps(asdict(settings)))
    if occupied and earlier is None:
        raise UserError(f"{destination}: not empty, and no {REPORT_FILE} of an earlier run; choose a new folder")
    if occupied and earlier is not None and earlier != now:
        raise UserError(
            f"{destination}: holds crops of other settings ({_differences(earlier, now)}); "
            "choose a new folder, or the settings of the earlier run to go on with it"
        )
    if earlier != now:
        write_report(destination, settings, None)


def write_report(destination: Path, settings: CropSettings, report: AlignReport | None) -> None:
    """Write `align.json`. Raises `UserError` where it cannot be written."""
    content = {"settings": asdict(settings), "report": report and report.as_dict()}
    write_whole(destination / REPORT_FILE, (json.dumps(content, indent=2) + "\n").encode())


def _earlier_settings(destination: Path) -> Mapping[str, Any] | None:
    path = destination / REPORT_FILE
    try:
        content: object = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); choose a new folder") from error
    settings = cast("dict[str, object]", content).get("settings") if isinstance(content, dict) else None
    if not isinstance(settings, dict):
        raise UserError(f'{path}: has no "settings", so it is not of an earlier run; choose a new folder')
    return cast("dict[str, Any]", settings)


def _differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    keys = [key for key in now if earlier.get(key) != now[key]]
    return "; ".join(f"{key}: {json.dumps(earlier.get(key))} then, {json.dumps(now[key])} now" for key in keys)
