"""`faceprint data align`: crops of photographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from faceprint.cli.data.conversion import print_names
from faceprint.cli.output import JsonOption, err, print_table, progress_bar, write_json
from faceprint.cores import num_cores

if TYPE_CHECKING:
    from faceprint.data.align_report import AlignReport
    from faceprint.errors import WorkerDied


def align(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of photographs, searched to any depth.")],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="Folder for the crops, at the same paths.")],
    detector_model: Annotated[
        Optional[str],  # noqa: UP045 - typer reads this annotation at run time on Python 3.10
        typer.Option(metavar="FILE", help="YuNet face detector (ONNX). Default: fetched from the OpenCV Zoo."),
    ] = None,
    size: Annotated[str, typer.Option(metavar="HxW", help="Height x width of a crop: 112x112, 112x96.")] = "112x112",
    choose: Annotated[
        str, typer.Option(help="Which face of several: central (nearest to the middle) or largest.")
    ] = "central",
    score_threshold: Annotated[float, typer.Option(help="Faces less sure than this (0 to 1) are ignored.")] = 0.6,
    refine: Annotated[
        bool, typer.Option(help="Measure the landmarks again in a close-up: better crops, at a third of the speed.")
    ] = True,
    image_format: Annotated[
        str,
        typer.Option("--format", help="jpg (quality 95, full colour) or png (lossless, four times the space)."),
    ] = "jpg",
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(metavar="N", help="Processes. Default: one for each core.", show_default=False),
    ] = None,
    json_target: JsonOption = None,
) -> None:
    """Find the face in each photograph and crop it upright and to scale, as networks expect it.

    The same command goes on where it was stopped. Photographs without a face are listed in DST/align.json.

    The folder that FACEPRINT_MODELS names is searched for the detector before it is downloaded.
    """
    from faceprint.data.align_folder import align_folder
    from faceprint.data.model_files import YUNET, find_model
    from faceprint.data.pixels import parse_size

    with progress_bar("aligning", "photographs") as progress:
        try:
            report = align_folder(
                source,
                destination,
                detector_model=find_model(detector_model or YUNET.name),
                size=parse_size(size),
                choose=choose,
                score_threshold=score_threshold,
                refine=refine,
                image_format=image_format,
                workers=num_cores() if workers is None else workers,
                progress=progress,
            )
        except WorkerDied as error:
            err.print(f"error: {error}", style="bold red", markup=False)
            raise typer.Exit(1) from error
    _print_report(report, destination, json_target)
    write_json(report.as_dict(), json_target)


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
