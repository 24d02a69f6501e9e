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


def session_options(threads: int) -> Any:
    """Options of an onnxruntime session with `threads` threads a call, 0 for as many as there are cores.

    It logs nothing but what ends the process: its errors are raised, and shown by whoever catches them.
    """
    options = require("onnxruntime").SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    return options
