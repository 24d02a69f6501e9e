"""The packages of the extra `onnx`, imported where they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from faceprint.errors import UserError


def require(module: str) -> Any:
    """The module `module` of the extra `onnx`. Raises `UserError` that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"ONNX files need the package {module.split('.')[0]} ({error}): pip install 'faceprint[onnx]'"
        ) from error
