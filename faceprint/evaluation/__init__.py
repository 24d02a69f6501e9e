"""Scoring of embeddings: `metrics` (NumPy alone), verification sets (`pairs`), `protocols` and `report`.

Only `metrics` is imported here; the other modules read images and are imported by name.
"""

from __future__ import annotations

from faceprint.evaluation import metrics

__all__ = ["metrics"]
