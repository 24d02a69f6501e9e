"""Files to be written after long work, checked before it."""

from __future__ import annotations

import os
from pathlib import Path

from faceprint.errors import UserError


def check_output(path: Path, suffix: str) -> None:
    """Raise `UserError` unless `path` ends in `suffix` and can be written, as far as that is known beforehand."""
    if path.suffix.lower() != suffix or path.is_dir():
        raise UserError(f"{path}: give the name of a file that ends in {suffix}")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{path}: cannot be written, for {folder} is no folder that can be written to")
