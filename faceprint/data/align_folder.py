"""A folder of photographs to a folder of aligned crops: many processes, and resumable."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import cv2

from faceprint.data.align_report import (
    REPORT_FILE,
    AlignReport,
    CropSettings,
    claim,
    write_report,
)
from faceprint.data.alignment import align, template
from faceprint.data.detection import CHOOSERS, YuNet, choose_face
from faceprint.data.images import IMAGE_SUFFIXES, ImageError, read_image
from faceprint.data.model_files import file_sha256
from faceprint.errors import UserError, WorkerDied
from faceprint.files import write_whole
from faceprint.registry import Table

FORMATS: Table[tuple[int, ...]] = Table(
    "crop format",
    [
        # The published training sets are JPEG too. With the colours at full resolution and quality 95 a crop
        # takes 6.4 kB and differs from the lossless one by 1.3 of 255 (root mean square); a PNG takes 24 kB.
        (
            "jpg",
            (
                cv2.IMWRITE_JPEG_QUALITY,
                95,
                cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
                cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
            ),
        ),
        ("png", ()),
    ],
)
"""Name (and extension) of a crop's file format -> its parameters for `cv2.imencode`."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What a worker needs to know."""

    source: Path
    destination: Path
    detector_model: Path
    settings: CropSettings

    def target(self, name: str) -> Path:
        return (self.destination / name).with_suffix(f".{self.settings.image_format}")


@dataclass(frozen=True)
class _Outcome:
    name: str
    found: bool
    reason: str | None = None  # why the photograph could not be read


def align_folder(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    detector_model: str | os.PathLike[str],
    size: tuple[int, int] = (112, 112),
    choose: str = "central",
    score_threshold: float = 0.6,
    refine: bool = True,
    image_format: str = "jpg",
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> AlignReport:
    """Crop one face of each photograph below `source` to the same path below `destination`.

    `size` is (height, width); the extension becomes `image_format` (a name of `FORMATS`); `choose` is a rule
    of `CHOOSERS`; `refine` asks for the second look of `YuNet.refine`. A crop that exists is left as it is,
    so an interrupted run goes on where it stopped; a crop appears whole or not at all. Photographs that are
    unreadable or show no face are listed in the report, which is also written to `align.json` in the
    destination. With `workers` above 1 processes are spawned: a script that calls this needs the usual
    `if __name__ == "__main__":`. `progress` gets (photographs dealt with, photographs in all).

    Raises `UserError` before anything is written: no photographs, two that would share one crop, a
    destination inside the source or holding crops of other settings, a file that is no detector; and later
    where a crop cannot be written or there is no face in any photograph. Raises `WorkerDied` where a process
    is lost; the crops made stay.
    """
    started = time.perf_counter()
    job = _Job(
        source=Path(source),
        destination=Path(destination),
        detector_model=Path(detector_model),
        settings=CropSettings(
            source=os.path.realpath(source),
            size=size,
            choose=choose,
            score_threshold=score_threshold,
            refine=refine,
            image_format=image_format,
            detector_sha256=file_sha256(Path(detector_model)),
        ),
    )
    _check(job, workers)
    names, other_files = _photographs(job.source)
    _check_targets(names, job)
    claim(job.destination, job.settings)

    todo = [name for name in names if not job.target(name).exists()]
    already_done = len(names) - len(todo)
    outcomes: list[_Outcome] = []
    for batch in chain([[]], _crop_all(job, todo, workers)):  # the first tells where the work goes on
        outcomes += batch
        if progress:
            progress(already_done + len(outcomes), len(names))
    report = _report(outcomes, already_done, other_files, time.perf_counter() - started)
    write_report(job.destination, job.settings, report)
    if report.found + report.already_done == 0:
        raise UserError(
            f"{source}: no face was found in any of {len(names)} photographs ({len(report.unreadable)} "
            f"unreadable); all are listed in {job.destination / REPORT_FILE}"
        )
    return report


def _report(outcomes: Sequence[_Outcome], already_done: int, other_files: int, seconds: float) -> AlignReport:
    return AlignReport(
        photographs=already_done + len(outcomes),
        found=sum(outcome.found for outcome in outcomes),
        already_done=already_done,
        not_found=tuple(outcome.name for outcome in outcomes if not outcome.found and outcome.reason is None),
        unreadable=tuple((outcome.name, outcome.reason) for outcome in outcomes if outcome.reason is not None),
        other_files=other_files,
        seconds=seconds,
    )


def _check(job: _Job, workers: int) -> None:
    """Everything that can be said without looking at the photographs."""
    if workers < 1:
        raise UserError(f"workers {workers}: give 1 or more")
    if not job.source.is_dir():
        raise UserError(f"{job.source}: no such folder; give the folder that holds the photographs")
    source, destination = Path(job.settings.source), Path(os.path.realpath(job.destination))
    if destination == source or source in destination.parents:
        raise UserError(f"{job.destination}: lies inside {job.source}; choose a folder outside of it")
    template(job.settings.size)
    CHOOSERS[job.settings.choose]
    FORMATS[job.settings.image_format]
    YuNet(job.detector_model, job.settings.score_threshold)


def _photographs(source: Path) -> tuple[list[str], int]:
    """Names of the image files below `source`, sorted, and the number of other files. Links are followed."""
    names: list[str] = []
    others = 0
    folders: list[tuple[str, tuple[str, ...]]] = [("", ())]
    while folders:
        folder, above = folders.pop()
        real = os.path.realpath(source / folder)
        if real in above:  # a link back to a folder that contains it
            continue
        try:
            entries = list(os.scandir(source / folder))
        except OSError as error:
            raise UserError(f"{source / folder}: cannot be listed ({error.strerror or error})") from error
        for entry in entries:
            name = folder + entry.name
            if entry.is_dir():
                folders.append((f"{name}/", (*above, real)))
            elif _is_photograph(entry):
                names.append(name)
            else:
                others += 1
    if not names:
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise UserError(f"{source}: no photographs in it or below ({others} other files); they end in {kinds}")
    return sorted(names), others


def _is_photograph(entry: os.DirEntry[str]) -> bool:
    hidden = entry.name.startswith(".")  # such as the "._name.jpg" that macOS leaves beside "name.jpg"
    return entry.name.lower().endswith(IMAGE_SUFFIXES) and not hidden and entry.is_file()


def _check_targets(names: Sequence[str], job: _Job) -> None:
    owners: dict[Path, str] = {}
    for name in names:
        other = owners.setdefault(job.target(name), name)
        if other != name:
            crop = job.target(name).relative_to(job.destination)
            raise UserError(f"{job.source}: {other} and {name} would both become {crop}; rename or remove one")


def _crop_all(job: _Job, names: Sequence[str], workers: int) -> Iterator[list[_Outcome]]:
    """The outcomes of all `names`, in order, batch by batch."""
    length = max(1, min(32, len(names) // (4 * workers)))
    batches = [names[at : at + length] for at in range(0, len(names), length)]
    crop = partial(_crop_batch, job)
    if workers == 1 or len(batches) < 2:
        yield from map(crop, batches)
        return
    pool = ProcessPoolExecutor(min(workers, len(batches)), get_context("spawn"), _start_worker)
    try:
        yield from pool.map(crop, batches)
    except BrokenProcessPool as error:
        raise WorkerDied(
            "a worker process died (killed, out of memory, or crashed on a photograph); the crops made so "
            f"far are kept: run the same again to go on, with fewer workers than {workers} if memory ran out"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    cv2.setNumThreads(1)  # the processes share the cores already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the main process ends the pool


def _crop_batch(job: _Job, names: Sequence[str]) -> list[_Outcome]:
    detector = _detector(job.detector_model, job.settings.score_threshold)
    return [_crop(job, detector, name) for name in names]


@lru_cache(maxsize=1)
def _detector(model_file: Path, score_threshold: float) -> YuNet:
    return YuNet(model_file, score_threshold)


def _crop(job: _Job, detector: YuNet, name: str) -> _Outcome:
    try:
        image = read_image(job.source / name)
    except ImageError as error:
        return _Outcome(name, found=False, reason=str(error))
    faces = detector.detect(image)
    if not faces:
        return _Outcome(name, found=False)
    face = choose_face(faces, image.shape[:2], job.settings.choose)
    if job.settings.refine:
        face = detector.refine(image, face)
    crop = align(image, face.landmarks, job.settings.size)
    image_format = job.settings.image_format
    _, encoded = cv2.imencode(f".{image_format}", crop[..., ::-1], FORMATS[image_format])
    write_whole(job.target(name), encoded.tobytes())
    return _Outcome(name, found=True)
