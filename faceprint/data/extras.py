"""Packages of optional extras, imported where they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from faceprint.errors import UserError


def require(module: str, extra: str, what: str) -> Any:
    """The module `module`, which `what` needs. Raises `UserError` that says which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise UserError(f"{what} need the package {package} ({error}): pip install 'faceprint[{extra}]'") from error
