"""`faceprint verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from faceprint.cli.embed import AlignOption, DetectorOption, FlipOption, InputOption, cropped, open_model
from faceprint.cli.output import JsonOption, err, out, write_json
from faceprint.errors import UserError


def verify(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, a model folder or an ONNX file.")],
    first: Annotated[Path, typer.Argument(metavar="A", help="An aligned face.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    threshold: Annotated[
        Optional[float],  # noqa: UP045 - typer reads this annotation at run time on Python 3.10
        typer.Option(help="Similarity above which it is one person. Default: the one stored with the model."),
    ] = None,
    flip: FlipOption = False,
    align: AlignOption = False,
    detector_model: DetectorOption = None,
    overrides: InputOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    json_target: JsonOption = None,
) -> None:
    """Compare two faces: their similarity, the cosine of their embeddings, and whether it is above the threshold.

    Example: faceprint verify runs/first a.jpg b.jpg --align
    """
    if threshold is not None and not -1 <= threshold <= 1:
        raise UserError(f"threshold {threshold}: a cosine, give -1 to 1")
    embedder = open_model(model, overrides, device)
    a, b = cropped([first, second], embedder, detector_model) if align else (first, second)
    similarity = embedder.similarity(a, b, flip=flip)
    limit = embedder.threshold if threshold is None else threshold
    same = None if limit is None else similarity > limit
    (err if json_target == "-" else out).print(_sentence(similarity, limit, same), markup=False)
    write_json({"similarity": similarity, "threshold": limit, "same": same}, json_target)


def _sentence(similarity: float, threshold: float | None, same: bool | None) -> str:
    if threshold is None:
        return (
            f"similarity {similarity:.4f}; the model has no threshold stored: give --threshold, such as the one that"
            " `faceprint eval` prints for pairs like yours"
        )
    return f"similarity {similarity:.4f}, threshold {threshold:.4f}: {'same person' if same else 'different people'}"
