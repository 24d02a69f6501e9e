"""Writes a source as an image folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2

from faceprint.data.source import Source
from faceprint.errors import UserError
from faceprint.files import write_whole


def write_folder(
    source: Source, destination: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write every image of `source` as `destination/IDENTITY/IDENTITY_0001.png`, lossless, numbered from 1.

    Raises `UserError` where `destination` has files already, or cannot be written.
    """
    folder = Path(destination)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is not an empty folder; choose a new one")
    written = [0] * len(source.class_names)
    for index in range(len(source)):
        image, label = source[index]
        written[label] += 1
        identity = source.class_names[label]
        encoded = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
        write_whole(folder / identity / f"{identity}_{written[label]:04d}.png", encoded)
        if progress:
            progress(index + 1, len(source))
