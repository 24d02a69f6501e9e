"""Weights that others published, into our networks, and ours into their layouts.

A layout says where each tensor of our network is found in the files of one code base. One such table serves both ways.
"""

from __future__ import annotations

from faceprint.models.weights.exporting import ExportedWeights, export_weights
from faceprint.models.weights.layouts import LAYOUTS
from faceprint.models.weights.loading import WeightsReport, load_weights

__all__ = ["LAYOUTS", "ExportedWeights", "WeightsReport", "export_weights", "load_weights"]
