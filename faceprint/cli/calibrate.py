"""`faceprint calibrate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from faceprint.cli.evaluate import parse_options, score_model
from faceprint.cli.model_options import ModelArgument
from faceprint.cli.output import JsonOption, err, out, print_table, write_json
from faceprint.errors import UserError

if TYPE_CHECKING:
    from faceprint.evaluation.calibration import Calibration
    from faceprint.evaluation.protocols import Evaluation


def calibrate(
    model: ModelArgument,
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help="pairs, bin or synthetic, as `faceprint eval`.")],
    assignments: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="key=value", help="Options of the protocol and of the model, as `faceprint eval`."),
    ] = None,
    far: Annotated[float, typer.Option(help="The false-accept rate to choose the threshold for.")] = 1e-3,
    output: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE.onnx", help="For an ONNX file: the copy that gets the threshold."),
    ] = None,
    replicates: Annotated[int, typer.Option(min=100, max=100_000, help="Bootstrap samples.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    json_target: JsonOption = None,
) -> None:
    """Choose the threshold for a false-accept rate on your own pairs, and store it with the model.

    The threshold is the lowest whose FAR on the pairs does not exceed --far. Intervals of 95 % come from a bootstrap
    over identities. Fewer than 3 / FAR pairs of different people are refused (rule of 3), fewer than 30 / FAR are
    remarked on (rule of 30). `faceprint verify` uses the threshold, and names the FAR. By default flip=false; what it
    was is stored too, and `verify` does the same.

    Example: faceprint calibrate runs/mine pairs images=crops pairs=pairs.csv --far 1e-3
    """
    from faceprint.inference.model_card import StoredCalibration
    from faceprint.inference.store_threshold import check_storable, store_threshold

    options = _read_options(protocol, assignments or [])
    check_storable(model, output)
    _check_pairs(protocol, options, far)
    flip = options["flip"].lower() == "true"
    embedder, outcome = score_model(model, protocol, options)
    assert outcome.evaluation is not None
    found = _calibrate(outcome.evaluation, far, replicates, seed)
    stored = StoredCalibration(
        far=far,
        flip=flip,
        num_different=found.num_different,
        num_same=found.num_same,
        threshold_interval=found.threshold_interval,
    )
    target = store_threshold(model, embedder, found.threshold, stored, output)
    print_table(
        f"{model}: threshold for FAR {far:g}",
        ("measure", "value", "95 % interval"),
        _rows(found),
        json_target=json_target,
    )
    (err if json_target == "-" else out).print(f"stored in {target}", markup=False)
    write_json({**asdict(found), "flip": flip, "model": model, "output": str(target)}, json_target)


def _read_options(protocol: str, assignments: list[str]) -> dict[str, str]:
    from faceprint.evaluation.protocols import PROTOCOLS

    if protocol not in PROTOCOLS:
        raise UserError(f"calibrate takes pairs: {', '.join(PROTOCOLS)}; got {protocol!r}")
    options = parse_options(protocol, assignments)
    if "plot" in options:
        raise UserError("plot belongs to `faceprint eval`")
    return {"flip": "false", **options}


def _check_pairs(protocol: str, options: dict[str, str], far: float) -> None:
    """Raise `UserError` for pairs that are too few, before their images are embedded."""
    from faceprint.evaluation.calibration import check_support
    from faceprint.evaluation.protocols import load_protocol, protocol_options

    listed = load_protocol(protocol, {key: options[key] for key in protocol_options(protocol) if key in options})
    check_support(far, int((~listed.same).sum()))


def _calibrate(evaluation: Evaluation, far: float, replicates: int, seed: int) -> Calibration:
    from faceprint.evaluation.calibration import calibrate
    from faceprint.evaluation.people import people_of

    pairs = evaluation.pairs
    people = people_of(pairs)
    persons = people.number[pairs.first], people.number[pairs.second]
    return calibrate(
        evaluation.scores, evaluation.same, persons, far, identities=people.rule, replicates=replicates, seed=seed
    )


def _rows(found: Calibration) -> list[tuple[str, str, str]]:
    return [
        ("threshold", f"{found.threshold:.4f}", _between(found.threshold_interval, 1, ".4f")),
        (
            f"FAR ({found.false_accepts:,} false accepts)",
            f"{100 * found.far_measured:.3g} %",
            _between(found.far_interval, 100, ".3g"),
        ),
        ("TAR", f"{100 * found.tar:.2f} %", _between(found.tar_interval, 100, ".2f")),
        ("pairs, different + same", f"{found.num_different:,} + {found.num_same:,}", ""),
        ("people", f"{found.num_identities:,}", f"told by {found.identities}"),
        ("support", found.support, f"{found.replicates:,} samples of people"),
    ]


def _between(interval: tuple[float, float], factor: float, form: str) -> str:
    return " … ".join(f"{factor * end:{form}}" for end in interval)
