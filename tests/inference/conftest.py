"""Exported files, made once: an export takes some seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from small_network import write_model

from faceprint.data.pixels import InputSpec
from faceprint.inference.export import ExportReport, export_onnx

SPECS = {
    "as published": InputSpec(),
    "otherwise": InputSpec(size=(112, 96), colour="bgr", mean=10.0, std=100.0),
}


@dataclass(frozen=True)
class Exported:
    folder: Path
    file: Path
    spec: InputSpec
    report: ExportReport


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Networks as small as these gain nothing from more, and lose where other programs are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", params=list(SPECS))
def exported(request, tmp_path_factory) -> Exported:
    """A model folder and the ONNX file made of it: once with the published input, once with another."""
    spec = SPECS[request.param]
    place = tmp_path_factory.mktemp("exported")
    folder = write_model(
        place / "run" / "model", input=spec, provenance={"data": "noise"}, threshold=0.5, licence="a licence"
    )
    report = export_onnx(place / "run", place / "small.onnx")
    return Exported(folder, place / "small.onnx", spec, report)
