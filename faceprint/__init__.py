"""Train and evaluate face-recognition networks.

The public names load lazily, so that `import faceprint` costs nothing:

- `create_model(name, **options)` builds a network by its published name,
- `list_models(pattern)` lists those names,
- `load(path)` opens a run folder, a model folder or an ONNX file as an `Embedder`,
- the subpackages `models`, `margins`, `classifier`, `data`, `inference`, `evaluation`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from faceprint import classifier, data, evaluation, inference, margins, models
    from faceprint.inference import load
    from faceprint.models import create_model, list_models

__all__ = [
    "__version__",
    "classifier",
    "create_model",
    "data",
    "evaluation",
    "inference",
    "list_models",
    "load",
    "margins",
    "models",
]

_HOMES = {"create_model": "models", "list_models": "models", "load": "inference"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"faceprint.{_HOMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"faceprint.{name}")
    raise AttributeError(f"module 'faceprint' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
