"""Photographs to a folder of aligned crops, by many workers, and resumable."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceprint.data.align_report import REPORT_FILE, AlignReport, CropSettings, claim, write_report
from faceprint.data.alignment import template
from faceprint.data.crops import FORMATS, CropJob, Outcome, crop_batch
from faceprint.data.detection import CHOOSERS
from faceprint.data.detectors import DetectorChoice
from faceprint.data.executors import Executor, Processes
from faceprint.data.landmark_table import LandmarkTable
from faceprint.data.model_files import file_sha256
from faceprint.data.photographs import Photographs, find_photographs
from faceprint.errors import UserError

_LARGEST_BATCH = 32


@dataclass
class _Tally:
    """Outcomes, added up."""

    found: int = 0
    not_found: list[str] = field(default_factory=list[str])
    unreadable: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def add(self, outcomes: Sequence[Outcome]) -> None:
        self.found += sum(outcome.row is not None for outcome in outcomes)
        self.unreadable += [(outcome.name, outcome.reason) for outcome in outcomes if outcome.reason is not None]
        self.not_found += [outcome.name for outcome in outcomes if outcome.row is None and outcome.reason is None]

    def __len__(self) -> int:
        return self.found + len(self.not_found) + len(self.unreadable)


def align_folder(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    detector: DetectorChoice,
    size: tuple[int, int] = (112, 112),
    choose: str = "central",
    image_format: str = "jpg",
    source_format: str | None = None,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AlignReport:
    """Crop one face of each photograph at `source` (see `find_photographs`) into a folder, `destination`.

    `size` is (height, width); the extension becomes `image_format` (a name of `FORMATS`); `choose` is a rule of
    `CHOOSERS`; `source_format` a name of `formats.FORMATS`. Where each face was found stands in `landmarks.parquet`
    beside the crops (`LandmarkTable`). A crop that exists and has its row there is left as it is, so an interrupted
    run goes on where it stopped; a crop appears whole or not at all. Photographs that are unreadable or show no face
    are listed in the report, which is also written to `align.json`. Without an `executor` this process does it all.
    `progress` gets (photographs dealt with, photographs in all).

    Raises `UserError` before anything is written: no photographs, two that would share one crop, a destination inside
    the source or holding crops of other settings, a detector that cannot be made; and later where a crop cannot be
    written or there is no face in any photograph. Raises `WorkerDied` where the executor does; the crops made stay.
    """
    started = time.perf_counter()
    _check(Path(source), Path(destination), size, choose, image_format, detector)
    photographs = find_photographs(source, source_format)
    settings = _settings(source, size, choose, image_format, detector)
    job = CropJob(
        read=photographs.read,
        destination=Path(destination),
        detector=detector,
        size=size,
        choose=choose,
        image_format=image_format,
    )
    claim(job.destination, settings)
    with LandmarkTable(job.destination) as table:
        todo = _todo(job, photographs, table)
        tally = _crop_all(job, photographs, todo, table, executor or Processes(), progress)
        table.finish()
    report = _report(tally, len(photographs) - len(todo), photographs.other_files, time.perf_counter() - started)
    write_report(job.destination, settings, report)
    _refuse_nothing(report, source, job.destination)
    return report


def _check(
    source: Path, destination: Path, size: tuple[int, int], choose: str, image_format: str, detector: DetectorChoice
) -> None:
    """Everything that can be said without looking at the photographs."""
    inside, outside = Path(os.path.realpath(destination)), Path(os.path.realpath(source))
    if source.is_dir() and (inside == outside or outside in inside.parents):
        raise UserError(f"{destination}: lies inside {source}; choose a folder outside of it")
    template(size)
    CHOOSERS[choose]
    FORMATS[image_format]
    detector.make()


def _settings(
    source: str | os.PathLike[str], size: tuple[int, int], choose: str, image_format: str, detector: DetectorChoice
) -> CropSettings:
    path = os.fspath(source)
    return CropSettings(
        source=os.path.realpath(path) if os.path.exists(path) else path,
        size=size,
        choose=choose,
        detector=detector.name,
        detector_sha256=file_sha256(detector.file) if detector.file else None,
        score_threshold=detector.score_threshold,
        refine=detector.refine,
        image_format=image_format,
    )


def _report(tally: _Tally, already_done: int, other_files: int, seconds: float) -> AlignReport:
    return AlignReport(
        photographs=already_done + len(tally),
        found=tally.found,
        already_done=already_done,
        not_found=tuple(tally.not_found),
        unreadable=tuple(tally.unreadable),
        other_files=other_files,
        seconds=seconds,
    )


def _refuse_nothing(report: AlignReport, source: str | os.PathLike[str], destination: Path) -> None:
    if report.found + report.already_done == 0:
        raise UserError(
            f"{source}: no face was found in any of {report.photographs} photographs ({len(report.unreadable)} "
            f"unreadable); all are listed in {destination / REPORT_FILE}"
        )


def _todo(job: CropJob, photographs: Photographs, table: LandmarkTable) -> NDArray[np.int64]:
    """Indices (N,) of the photographs of which the crop or its row is missing."""
    crops = (job.crop(photographs[at]) for at in range(len(photographs)))
    missing = (not ((job.destination / crop).exists() and crop in table) for crop in crops)
    return np.flatnonzero(np.fromiter(missing, bool, len(photographs)))


def _crop_all(
    job: CropJob,
    photographs: Photographs,
    todo: NDArray[np.int64],
    table: LandmarkTable,
    executor: Executor,
    progress: Callable[[int, int], None] | None,
) -> _Tally:
    tally = _Tally()
    already_done = len(photographs) - len(todo)
    if progress:
        progress(already_done, len(photographs))  # tells where the work goes on
    length = max(1, min(_LARGEST_BATCH, len(todo) // (4 * executor.workers)))
    parts = (todo[at : at + length] for at in range(0, len(todo), length))
    batches = ([photographs[int(at)] for at in part] for part in parts)
    for outcomes in executor.map_batches(partial(crop_batch, job), batches):
        table.add(outcome.row for outcome in outcomes if outcome.row is not None)
        tally.add(outcomes)
        if progress:
            progress(already_done + len(tally), len(photographs))
    return tally
