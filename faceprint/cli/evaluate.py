"""`faceprint eval`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from faceprint.assignments import split_assignment
from faceprint.cli.output import JsonOption, err, print_table, progress_bar, write_json
from faceprint.errors import UserError
from faceprint.registry import unknown

if TYPE_CHECKING:
    from faceprint.evaluation.pairs import PairSet

INPUT_KEYS = ("input.mean", "input.std", "input.colour", "input.size")
COMMON_KEYS = ("flip", "batch_size", "device", "plot", *INPUT_KEYS)


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, a model folder or an ONNX file.")],
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help="pairs, bin or synthetic.")],
    assignments: Annotated[
        Optional[list[str]],  # noqa: UP045 - read by typer at run time
        typer.Argument(metavar="key=value", help="Options of the protocol and of the model, as described above."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Measure how well a model tells people apart.

    [bold]pairs[/bold]: images=DIR, aligned crops; pairs=FILE, pairs.txt of LFW or CSV with path_a,path_b,same,fold, or
    the lists of CFP (Protocol/Split/FP), AgeDB-30, CALFW, CPLFW and RFW; layout=NAME where it is not recognised
    (lfw, csv, rfw, calfw, agedb, cfp); folds=1,2 keeps only these.

    [bold]bin[/bold]: path=FILE, a pickled verification set; folds=1,2.

    [bold]synthetic[/bold]: num_identities=200 images_per_identity=6 num_pairs=2000 difficulty=0.5 seed=0
    first_identity=0 size=112x112: generated people, which say nothing about photographs.

    All: flip=true (sum the embeddings of image and mirror image), batch_size=64, device=auto, plot=FILE.png (ROC and
    histograms). For an ONNX file that does not say what it takes: input.mean=127.5 input.std=127.5 input.colour=rgb
    input.size=112x112.

    Example: faceprint eval runs/first pairs images=crops pairs=pairs.txt plot=roc.png
    """
    from faceprint.evaluation.protocols import evaluate_pairs
    from faceprint.evaluation.report import plot_evaluation, table_rows
    from faceprint.plot_extra import check_plotting

    options = _options(protocol, assignments or [])
    flip, batch_size = _flag("flip", options), _count("batch_size", options)
    plot, device = options.pop("plot", None), options.pop("device", "auto")
    _check_writable(json_file, plot)
    if plot is not None:
        check_plotting()
    overrides = {key.removeprefix("input."): options.pop(key) for key in INPUT_KEYS if key in options}
    pairs = _load_pairs(protocol, options)

    from faceprint.inference import load

    embedder = load(model, input_overrides=overrides or None, device=device)
    with progress_bar("embedding", "images") as progress:
        evaluation = evaluate_pairs(embedder, pairs, flip=flip, batch_size=batch_size, progress=progress)
    if plot is not None:
        plot_evaluation(evaluation, plot)
    print_table(
        f"{evaluation.result['model']}: {protocol}",
        ("measure", "value"),
        table_rows(evaluation.result),
        json_target=json_file,
    )
    write_json(evaluation.result, json_file)


def _options(protocol: str, assignments: list[str]) -> dict[str, str]:
    from faceprint.evaluation.protocols import protocol_options

    allowed = [*protocol_options(protocol), *COMMON_KEYS]
    options: dict[str, str] = {}
    for key, value in map(split_assignment, assignments):
        if key not in allowed:
            raise unknown(f"key of eval {protocol}", key, allowed)
        if key in options:
            raise UserError(f"{key} is given twice")
        options[key] = value
    return options


def _load_pairs(protocol: str, options: dict[str, str]) -> PairSet:
    from faceprint.evaluation.pairs import MissingImagesError
    from faceprint.evaluation.protocols import load_protocol

    try:
        return load_protocol(protocol, options)
    except MissingImagesError as error:
        for name in error.missing:
            err.print(f"missing: {name}", markup=False)
        raise


def _flag(key: str, options: dict[str, str]) -> bool:
    value = options.pop(key, "true").lower()
    if value not in ("true", "false"):
        raise UserError(f"{key} is {value!r}; allowed: true, false")
    return value == "true"


def _count(key: str, options: dict[str, str]) -> int:
    value = options.pop(key, "64")
    if not (value.isascii() and value.isdecimal() and 0 < len(value) < 7 and int(value)):
        raise UserError(f"{key} is {value!r}; allowed: a whole number from 1 to 999999")
    return int(value)


def _check_writable(json_file: str | None, plot: str | None) -> None:
    """Before the work, not after it."""
    if plot is not None and Path(plot).suffix.lower() != ".png":
        raise UserError(f"plot is {plot!r}; it is written as PNG, give a name that ends in .png")
    for target in (plot, None if json_file == "-" else json_file):
        if target is None:
            continue
        folder = Path(target).absolute().parent
        if not folder.is_dir():
            raise UserError(f"{target}: there is no folder {folder} to write it into")
        if Path(target).is_dir() or not os.access(folder, os.W_OK):
            raise UserError(f"{target}: cannot be written: it is a folder, or {folder} does not allow it")
