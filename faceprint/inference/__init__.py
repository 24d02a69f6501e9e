"""Trained networks in use: `load` opens a model, `Embedder` makes embeddings and compares faces.

`model_folder` writes and reads model folders, `export` makes ONNX files.
"""

from __future__ import annotations

from faceprint.inference.embedder import Embedder, load

__all__ = ["Embedder", "load"]
