"""`faceprint verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from faceprint.cli.embed import cropped, open_model
from faceprint.cli.model_options import AlignOption, DetectorOption, DeviceOption, InputOption, ModelArgument
from faceprint.cli.output import JsonOption, err, out, write_json
from faceprint.errors import UserError

if TYPE_CHECKING:
    from faceprint.inference.model_card import StoredCalibration


def verify(
    model: ModelArgument,
    first: Annotated[Path, typer.Argument(metavar="A", help="An aligned face.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    threshold: Annotated[
        Optional[float],
        typer.Option(help="Similarity above which it is one person. Default: the one stored with the model."),
    ] = None,
    flip: Annotated[
        Optional[bool],
        typer.Option(
            help="Add the embedding of the mirror image. Default: as the stored threshold was calibrated, else no."
        ),
    ] = None,
    align: AlignOption = False,
    detector_model: DetectorOption = None,
    overrides: InputOption = None,
    device: DeviceOption = "auto",
    json_target: JsonOption = None,
) -> None:
    """Compare two faces: their similarity, the cosine of their embeddings, and whether it is above the threshold.

    A threshold that `faceprint calibrate` stored is used with the FAR that it was chosen for, which is printed.

    Example: faceprint verify runs/first a.jpg b.jpg --align
    """
    if threshold is not None and not -1 <= threshold <= 1:
        raise UserError(f"threshold {threshold}: a cosine, give -1 to 1")
    embedder = open_model(model, overrides, device)
    a, b = cropped([first, second], embedder, detector_model) if align else (first, second)
    calibration = embedder.card.calibration if embedder.card and threshold is None else None
    similarity = embedder.similarity(a, b, flip=_flip(flip, calibration))
    limit = embedder.threshold if threshold is None else threshold
    same = None if limit is None else similarity > limit
    (err if json_target == "-" else out).print(_sentence(similarity, limit, same, calibration), markup=False)
    said = {"calibrated_far": calibration.far} if calibration else {}
    write_json({"similarity": similarity, "threshold": limit, "same": same, **said}, json_target)


def _flip(given: bool | None, calibration: StoredCalibration | None) -> bool:
    if calibration is None:
        return bool(given)
    if given not in (None, calibration.flip):
        raise UserError(
            f"the stored threshold was calibrated with {'--flip' if calibration.flip else '--no-flip'}; leave out the"
            " option, or give --threshold"
        )
    return calibration.flip


def _sentence(
    similarity: float, threshold: float | None, same: bool | None, calibration: StoredCalibration | None
) -> str:
    if threshold is None:
        return (
            f"similarity {similarity:.4f}; the model has no threshold stored: give --threshold, or choose one by"
            " `faceprint calibrate` on pairs like yours"
        )
    rests_on = f" (FAR {calibration.far:g} on {calibration.num_different:,} pairs)" if calibration else ""
    answer = "same person" if same else "different people"
    return f"similarity {similarity:.4f}, threshold {threshold:.4f}{rests_on}: {answer}"
