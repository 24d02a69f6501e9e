"""Whether results can be written: asked before the work, not after it."""

from __future__ import annotations

import os
from pathlib import Path

from faceprint.errors import UserError


def check_writable(json_file: str | None, *pictures: str | None) -> None:
    """Raise `UserError` where one of these files cannot be written, or a picture has another name than *.png."""
    for picture in pictures:
        if picture is not None and Path(picture).suffix.lower() != ".png":
            raise UserError(f"{picture!r}: pictures are written as PNG, give a name that ends in .png")
    for target in (*pictures, None if json_file == "-" else json_file):
        if target is None:
            continue
        folder = Path(target).absolute().parent
        if not folder.is_dir():
            raise UserError(f"{target}: there is no folder {folder} to write it into")
        if Path(target).is_dir() or not os.access(folder, os.W_OK):
            raise UserError(f"{target}: cannot be written: it is a folder, or {folder} does not allow it")
