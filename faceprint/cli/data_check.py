"""`faceprint data check` and `data stats`: what is in a labelled set, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from faceprint.cli.output import JsonOption, err, print_table, progress_bar, write_json
from faceprint.cores import num_cores

if TYPE_CHECKING:
    from faceprint.data.check import Check

SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="A labelled set: a folder of identities, an image list, .rec, shards or Parquet (files or URLs); or a"
        " recipe, for its data.",
    ),
]
FastOption = Annotated[bool, typer.Option("--fast", help="Read bytes and headers only: no pixels are decoded.")]
DetectorOption = Annotated[
    Optional[str],
    typer.Option(metavar="FILE", help="YuNet face detector (ONNX), asked whether 500 of the crops are aligned."),
]
WorkersOption = Annotated[
    Optional[int],
    typer.Option(metavar="N", min=1, help="Processes. Default: one for each core.", show_default=False),
]

_NAMES_SHOWN = 5


def check(
    source: SourceArgument,
    output: Annotated[
        Optional[Path],
        typer.Option(metavar="FOLDER", help="Write numbers, lists, a histogram and a contact sheet here."),
    ] = None,
    fast: FastOption = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 1 where something looks wrong.")] = False,
    detector_model: DetectorOption = None,
    workers: WorkersOption = None,
    json_target: JsonOption = None,
) -> None:
    """Count a labelled set, and look for what spoils training.

    Unreadable, truncated and damaged images, copies (by the byte and by the look), identities with a single image,
    label gaps, odd sizes, crops that are not aligned or have red and blue swapped; public sets are known by their
    counts.

    Example: faceprint data check crops --output report
    """
    from faceprint.data.check import write_check

    found = _look(source, fast, detector_model, workers)
    _print_counts(found, source, json_target)
    for problem in found.result["unreadable"][:_NAMES_SHOWN]:
        err.print(f"unreadable: {problem['reason']}", markup=False)
    for warning in found.warnings:
        err.print(f"warning: {warning}", style="yellow", markup=False)
    if output is not None:
        written = write_check(found, output)
        err.print(f"in {output}: {', '.join(path.name for path in written)}", markup=False)
    write_json(found.result, json_target)
    if strict and found.warnings:
        raise typer.Exit(1)


def stats(
    source: SourceArgument,
    fast: FastOption = False,
    detector_model: DetectorOption = None,
    workers: WorkersOption = None,
    json_target: JsonOption = "-",
) -> None:
    """Write the numbers of `data check` as JSON, to standard output unless --json says otherwise."""
    write_json(_look(source, fast, detector_model, workers).result, json_target)


def _look(source: str, fast: bool, detector_model: str | None, workers: int | None) -> Check:
    from faceprint.data.check import check_source
    from faceprint.data.model_files import find_model
    from faceprint.training.open_set import open_set

    detector = find_model(detector_model) if detector_model else None
    with progress_bar("checking", "images") as progress:
        return check_source(
            open_set(source),
            decode=not fast,
            workers=num_cores() if workers is None else workers,
            detector_model=detector,
            progress=progress,
        )


def _print_counts(found: Check, source: str, json_target: str | None) -> None:
    result = found.result
    spread = result["images_per_identity"]
    rows = [
        ("images", f"{result['images']:,}"),
        ("identities", f"{result['identities']:,}"),
        ("known as", result["known_set"]["name"] if result["known_set"] else "-"),
        ("labels", _labels(result["labels"])),
        ("images of an identity", f"{spread['min']} to {spread['max']:,}, median {spread['median']:g}"),
        *((f"  {_from_to(row)}", f"{row['identities']:,} identities") for row in spread["histogram"]),
        ("size (height x width)", _sizes(result)),
        ("encoding", ", ".join(f"{name} {count:,}" for name, count in result["encodings"].items())),
        ("bytes", f"{result['bytes']:,}"),
        ("unreadable", f"{len(result['unreadable']):,}"),
        ("copies, same file", f"{_extra(result['duplicates']['exact']):,}"),
        *(_of_pixels(result) if found.scan.decoded else []),
    ]
    print_table(source, ["", "value"], rows, json_target=json_target)


def _of_pixels(result: dict[str, Any]) -> list[tuple[str, str]]:
    crops, detector = result["crops"], result["detector"]
    damaged = result["damaged"]
    rows = [
        ("damaged", "not known: pip install 'faceprint[strict]'" if damaged is None else f"{len(damaged):,}"),
        ("copies, same picture", f"{_extra(result['duplicates']['similar']):,}"),
        ("grey", f"{result['grey']:,}"),
        ("do not look aligned", f"{crops['unaligned_share']:.1%}"),
        ("look blue", f"{crops['blue_share']:.1%}"),
    ]
    if detector:
        rows.append(("off the template, by the detector", f"{detector['misplaced_share'] or 0:.1%}"))
    return rows


def _labels(labels: dict[str, int] | None) -> str:
    return f"{labels['min']:,} to {labels['max']:,}, {labels['missing']:,} missing" if labels else "names"


def _from_to(row: dict[str, int]) -> str:
    return f"{row['from']:,}" if row["from"] == row["to"] else f"{row['from']:,} to {row['to']:,}"


def _sizes(result: dict[str, Any]) -> str:
    shown = [f"{size['height']}x{size['width']} ({size['images']:,})" for size in result["sizes"][:3]]
    more = [f"{result['num_sizes'] - 3:,} more"] if result["num_sizes"] > 3 else []
    return ", ".join(shown + more) or "not known"


def _extra(duplicates: dict[str, int]) -> int:
    return duplicates["images"] - duplicates["groups"]
