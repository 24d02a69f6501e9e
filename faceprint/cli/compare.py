"""`faceprint compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from faceprint.cli.output import JsonOption, print_table, progress_bar, write_json
from faceprint.cli.subject import INPUT_KEYS, count, flag, load_pairs, open_embedder, read_options

if TYPE_CHECKING:
    from faceprint.evaluation.pairs import PairSet
    from faceprint.evaluation.protocols import Evaluation

_KEYS = [f"{which}.{key}" for which in ("a", "b") for key in INPUT_KEYS]


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A run folder, a model folder or an ONNX file.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help="pairs, bin or synthetic.")],
    assignments: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="key=value", help="Options of the pairs, as for `faceprint eval`, and those below."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Say whether B is better than A on the same pairs, or whether that may be chance.

    The difference of each figure with its 95 % interval, by intervals=1000 draws of people, and McNemar's test of the
    accuracies. Foreign ONNX files: a.input.mean=0 a.input.std=1 b.input.colour=bgr and so on. flip=true, batch_size=64,
    device=auto.

    Example: faceprint compare runs/first runs/second pairs images=crops pairs=pairs.csv
    """
    from faceprint.evaluation.protocols import protocol_options
    from faceprint.evaluation.uncertainty import compare_evaluations

    allowed = [*protocol_options(protocol), "intervals", "flip", "batch_size", "device", *_KEYS]
    options = read_options(assignments or [], allowed, "compare")
    draws, flipped = count("intervals", options, 1000, 100_000), flag("flip", options)
    batch_size, device = count("batch_size", options, 64), options.pop("device", "auto")
    inputs = {key: options.pop(key) for key in _KEYS if key in options}
    pairs = load_pairs(protocol, options)
    a, b = (
        _evaluate(model, which, {"device": device, **_of(which, inputs)}, pairs, flipped, batch_size)
        for which, model in (("a", first), ("b", second))
    )
    result = compare_evaluations(a, b, pairs, draws)
    print_table(
        f"{second} less {first}", ("measure", "A", "B", "B - A", "95 %", "p"), _rows(result), json_target=json_file
    )
    write_json(result, json_file)


def _of(which: str, inputs: dict[str, str]) -> dict[str, str]:
    return {key.removeprefix(f"{which}."): value for key, value in inputs.items() if key.startswith(f"{which}.")}


def _evaluate(
    model: str, which: str, options: dict[str, str], pairs: PairSet, flipped: bool, batch_size: int
) -> Evaluation:
    from faceprint.evaluation.protocols import evaluate_pairs

    embedder = open_embedder(model, options)
    with progress_bar(f"embedding, {which.upper()}", "images") as progress:
        return evaluate_pairs(embedder, pairs, flip=flipped, batch_size=batch_size, progress=progress)


def _rows(result: dict[str, Any]) -> list[list[str]]:
    rows = [
        [
            name.replace("_", " "),
            f"{row['a']:.5f}",
            f"{row['b']:.5f}",
            f"{row['value']:+.5f}",
            f"{row['low']:+.5f} … {row['high']:+.5f}",
            f"{row['p_value']:.3g}",
        ]
        for name, row in result["differences"].items()
    ]
    test = result["mcnemar"]
    counts = (f"{test['only_first']:,}", f"{test['only_second']:,}")
    return [*rows, ["right where the other errs (McNemar)", *counts, "", "", f"{test['p_value']:.3g}"]]
