"""The detectors that `data align` takes, by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faceprint.data.detection import Detector, YuNet
from faceprint.data.landmarks import LandmarkFile
from faceprint.data.model_files import YUNET, find_model
from faceprint.data.mtcnn import Mtcnn
from faceprint.data.onnx_detector import OnnxDetector
from faceprint.errors import UserError
from faceprint.registry import Table


@dataclass(frozen=True, kw_only=True)
class DetectorKind:
    """One row: `make(file, score threshold)`, and what holds where nothing else is said.

    `option` names the file that it is made from on the command line, "" where there is none. `refine` is None where
    landmarks cannot be measured again in a close-up.
    """

    make: Callable[[Path, float], Detector]
    score_threshold: float
    option: str = "--detector-model"
    default_file: str | None = None
    refine: bool | None = False


DETECTORS: Table[DetectorKind] = Table(
    "detector",
    [
        ("yunet", DetectorKind(make=YuNet, score_threshold=0.6, default_file=YUNET.name, refine=True)),
        ("scrfd", DetectorKind(make=OnnxDetector, score_threshold=0.5)),
        ("retinaface", DetectorKind(make=OnnxDetector, score_threshold=0.5)),
        ("mtcnn", DetectorKind(make=lambda _, threshold: Mtcnn(threshold), score_threshold=0.7, option="")),
        # A file states faces that someone chose to state: none of them is dropped for its score.
        ("landmarks", DetectorKind(make=LandmarkFile, score_threshold=0.0, option="--landmarks", refine=None)),
    ],
)


@dataclass(frozen=True, kw_only=True)
class DetectorChoice:
    """A row of `DETECTORS` with its settings; picklable, so that each process can `make` its own detector.

    `refine`: the landmarks of the chosen face are measured again in a close-up (`detection.refine`).
    """

    name: str
    file: Path | None
    score_threshold: float
    refine: bool

    def make(self) -> Detector:
        """The detector. Raises `UserError` where its file is not what it should be, or a package is missing."""
        return DETECTORS[self.name].make(self.file or Path(), self.score_threshold)


def choose_detector(
    name: str = "yunet",
    file: str | os.PathLike[str] | None = None,
    *,
    score_threshold: float | None = None,
    refine: bool | None = None,
) -> DetectorChoice:
    """The detector `name` of `DETECTORS`, made from `file`; None stands for the row's own value.

    A file of a network is looked for by `find_model`. Raises `UserError` for an unknown name, a file that is missing or
    not wanted, and `refine` where there is nothing to measure in.
    """
    kind = DETECTORS[name]
    if refine and kind.refine is None:
        raise UserError(f"detector {name}: has no network to measure landmarks again; leave out --refine")
    return DetectorChoice(
        name=name,
        file=_file(name, kind, file),
        score_threshold=kind.score_threshold if score_threshold is None else score_threshold,
        refine=bool(kind.refine if refine is None else refine),
    )


def _file(name: str, kind: DetectorKind, given: str | os.PathLike[str] | None) -> Path | None:
    wanted = given or kind.default_file
    if given and not kind.option:
        raise UserError(f"detector {name}: brings its own networks; leave out {given}")
    if wanted is None:
        if kind.option:
            raise UserError(f"detector {name}: give the file that it works from, {kind.option} FILE")
        return None
    return find_model(wanted)
