"""`faceprint data align`: crops of photographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from faceprint.cli.data.conversion import print_names
from faceprint.cli.output import JsonOption, err, print_table, progress_bar, write_json
from faceprint.cores import num_cores
from faceprint.errors import UserError

if TYPE_CHECKING:
    from faceprint.data.align_report import AlignReport


def align(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Photographs: a folder of any depth, an image list, or any other set.")
    ],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="Folder for the crops, at the same paths.")],
    detector: Annotated[
        str, typer.Option(help="yunet, scrfd, retinaface, mtcnn, or landmarks: faces that a file states.")
    ] = "yunet",
    detector_model: Annotated[
        Optional[str],
        typer.Option(metavar="FILE", help="The detector's ONNX file. YuNet's is fetched from the OpenCV Zoo."),
    ] = None,
    landmarks: Annotated[
        Optional[str],
        typer.Option(
            metavar="FILE", help="For landmarks: name x1 y1 … x5 y5 score a line (IJB), or .parquet or .csv as DST has."
        ),
    ] = None,
    size: Annotated[str, typer.Option(metavar="HxW", help="Height x width of a crop: 112x112, 112x96.")] = "112x112",
    choose: Annotated[
        str, typer.Option(help="Which face of several: central (nearest to the middle) or largest.")
    ] = "central",
    score_threshold: Annotated[
        Optional[float],
        typer.Option(
            help="Faces less sure than this (0 to 1) are ignored. Default: 0.6, mtcnn 0.7, scrfd and retinaface 0.5,"
            " landmarks 0.",
            show_default=False,
        ),
    ] = None,
    refine: Annotated[
        Optional[bool],
        typer.Option(
            "--refine/--no-refine",
            help="Measure the landmarks again in a close-up. Default: with yunet, which needs it; at a third of the "
            "speed.",
            show_default=False,
        ),
    ] = None,
    image_format: Annotated[
        str,
        typer.Option("--format", help="jpg (quality 95, full colour) or png (lossless, four times the space)."),
    ] = "jpg",
    source_format: Annotated[
        Optional[str],
        typer.Option(metavar="NAME", help="What SRC is. Default: what it is recognised as.", show_default=False),
    ] = None,
    workers: Annotated[
        Optional[int],
        typer.Option(metavar="N", help="Processes. Default: one for each core.", show_default=False),
    ] = None,
    ray: Annotated[
        Optional[str],
        typer.Option(
            metavar="ADDRESS", help="Work on the machines of a Ray cluster: HOST:PORT, auto, or local to start one."
        ),
    ] = None,
    json_target: JsonOption = None,
) -> None:
    """Find the face in each photograph and crop it upright and to scale, as networks expect it.

    The same command goes on where it was stopped. Where each face was found is in DST/landmarks.parquet (.csv without
    pyarrow). Photographs without a face are listed in DST/align.json.

    The folder that FACEPRINT_MODELS names is searched for the detector before it is downloaded.
    """
    from faceprint.data.align_folder import align_folder
    from faceprint.data.detectors import choose_detector
    from faceprint.data.executors import Processes, RayCluster
    from faceprint.data.pixels import parse_size

    _check_landmarks(detector, detector_model, landmarks)
    count = num_cores() if workers is None else workers
    with progress_bar("aligning", "photographs") as progress:
        report = align_folder(
            source,
            destination,
            detector=choose_detector(
                detector, landmarks or detector_model, score_threshold=score_threshold, refine=refine
            ),
            size=parse_size(size),
            choose=choose,
            image_format=image_format,
            source_format=source_format,
            executor=RayCluster(ray, count) if ray else Processes(count),
            progress=progress,
        )
    _print_report(report, destination, json_target)
    write_json(report.as_dict(), json_target)


def _check_landmarks(detector: str, detector_model: str | None, landmarks: str | None) -> None:
    if (detector == "landmarks") != (landmarks is not None) or (landmarks and detector_model):
        raise UserError(
            "--detector landmarks takes --landmarks FILE and no --detector-model; other detectors take none"
        )


def _print_report(report: AlignReport, destination: Path, json_target: str | None) -> None:
    rows = [
        ("photographs", f"{report.photographs:,}"),
        ("faces cropped", f"{report.found:,}"),
        ("already done", f"{report.already_done:,}"),
        ("no face found", f"{len(report.not_found):,}"),
        ("unreadable", f"{len(report.unreadable):,}"),
        ("other files, not looked at", f"{report.other_files:,}"),
        ("photographs per second", f"{report.photographs_per_second:,.0f}"),
    ]
    print_table(f"Faces in {destination}", ["", "count"], rows, json_target=json_target)
    print_names("no face found", report.not_found)
    print_names("unreadable", [reason for _, reason in report.unreadable])
    if report.not_found or report.unreadable:
        err.print(f"the full list: {destination / 'align.json'}", markup=False)
