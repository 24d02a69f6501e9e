"""The package of the extra `plot`, asked for where it is needed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from faceprint.errors import UserError
from faceprint.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_plotting() -> None:
    """Raise `UserError`, saying how to install it, where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401 # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise UserError("a plot needs matplotlib: pip install 'faceprint[plot]'") from error


def write_figure(figure: Figure, path: Path, dpi: float = 120) -> None:
    """Write `figure` as PNG, whole or not at all. Raises `UserError` where `path` cannot be written."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=dpi)
    write_whole(path, png.getvalue())
