"""`faceprint data clean` and `data overlap`: what a network says about the labels of a set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from faceprint.cli.data_check import SourceArgument
from faceprint.cli.embed import open_model
from faceprint.cli.model_options import BatchSizeOption, DeviceOption, InputOption, ModelArgument
from faceprint.cli.output import JsonOption, err, print_table, progress_bar, write_json

if TYPE_CHECKING:
    from faceprint.data.source import Source
    from faceprint.evaluation.pairs import PairSet

OutputOption = Annotated[Path, typer.Option(metavar="FOLDER", help="The folder for the lists.")]


def clean(
    source: SourceArgument,
    model: ModelArgument,
    output: OutputOption,
    outlier_cosine: Annotated[
        Optional[float],
        typer.Option(
            min=-1, max=1, help="Below this an image is an outlier. Default: what 1 in 1,000 strangers reach."
        ),
    ] = None,
    alike_cosine: Annotated[
        Optional[float],
        typer.Option(
            min=-1,
            max=1,
            help="Above this identities are alike. Default: what 9 in 10 images have to their identity.",
        ),
    ] = None,
    batch_size: BatchSizeOption = 64,
    overrides: InputOption = None,
    device: DeviceOption = "auto",
    json_target: JsonOption = None,
) -> None:
    """Look for images of somebody else and for one person under two names, by a network's embeddings.

    FOLDER gets outliers.csv, alike.csv and exclude.csv. They are for a person to review; nothing is deleted.

    Example: faceprint data clean crops runs/first --output review
    """
    from faceprint.evaluation.cleaning import clean_source, write_cleaning
    from faceprint.training.open_set import open_named

    labelled = open_named(source)
    embedder = open_model(model, overrides, device)
    output.mkdir(parents=True, exist_ok=True)
    with progress_bar("embedding", "images") as progress:
        found = clean_source(
            embedder,
            labelled,
            outlier_limit=outlier_cosine,
            alike_limit=alike_cosine,
            batch_size=batch_size,
            device=device,
            scratch=output,
            progress=progress,
        )
    _report(found.as_dict(), write_cleaning(found, output), output, json_target)


def overlap(
    source: SourceArgument,
    test: Annotated[
        str, typer.Argument(metavar="TEST", help="The test set: a labelled set, as SRC may be, or a .bin.")
    ],
    model: ModelArgument,
    output: OutputOption,
    pairs: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="A list of pairs: of the folder TEST only its images are looked at."),
    ] = None,
    cosine: Annotated[
        Optional[float],
        typer.Option(
            min=-1, max=1, help="Above this a test image overlaps. Default: what 9 in 10 images have to their identity."
        ),
    ] = None,
    by: Annotated[str, typer.Option(help="Compare with the identities' centres or with all their images.")] = "centres",
    batch_size: BatchSizeOption = 64,
    overrides: InputOption = None,
    device: DeviceOption = "auto",
    json_target: JsonOption = None,
) -> None:
    """Find the people of a training set who are in a test set, by a network's embeddings.

    FOLDER gets overlap.csv and exclude.csv, the identities to leave out of training.

    Example: faceprint data overlap crops lfw.bin runs/first --output review
    """
    from faceprint.evaluation.overlap import find_overlap, write_overlap
    from faceprint.training.open_set import open_named

    labelled, tested = open_named(source), _open_test(test, pairs)
    embedder = open_model(model, overrides, device)
    output.mkdir(parents=True, exist_ok=True)
    with progress_bar("embedding", "images") as progress:
        found = find_overlap(
            embedder,
            labelled,
            tested,
            limit=cosine,
            by=by,
            batch_size=batch_size,
            device=device,
            scratch=output,
            progress=progress,
        )
    _report(found.as_dict(), write_overlap(found, output), output, json_target)


def _open_test(test: str, pairs: Path | None) -> Source | PairSet:
    from faceprint.evaluation.pairs import bin_pairs, file_pairs
    from faceprint.training.open_set import open_named

    if pairs is not None:
        return file_pairs(Path(test), pairs)
    return bin_pairs(Path(test)) if test.lower().endswith(".bin") else open_named(test)


def _report(result: dict[str, Any], written: list[Path], output: Path, json_target: str | None) -> None:
    rows = [(name.replace("_", " "), f"{value:,}") for name, value in result.items()]
    print_table(str(output), ["", "value"], rows, json_target=json_target)
    err.print(f"in {output}: {', '.join(path.name for path in written)}", markup=False)
    write_json(result, json_target)
