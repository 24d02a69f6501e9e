"""`faceprint compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from faceprint.cli.output import JsonOption, print_table, progress_bar, write_json
from faceprint.cli.subject import (
    INPUT_KEYS,
    MODEL_KEYS,
    count,
    is_first,
    is_made,
    launched,
    load_pairs,
    read_options,
    source_opener,
)
from faceprint.errors import UserError

if TYPE_CHECKING:
    from faceprint.cli.subject import Opener
    from faceprint.evaluation.pairs import PairSet
    from faceprint.evaluation.protocols import Evaluation

_COMMON = [key for key in MODEL_KEYS if key not in INPUT_KEYS]
_OWN = [f"{which}.{key}" for which in ("a", "b") for key in (*INPUT_KEYS, "names")]


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
    accuracies. flip=true, batch_size=64, device=auto, cache=DIR and skip_unreadable=false are as for `faceprint eval`,
    and for both; for one of them, what a foreign ONNX file takes, a.input.mean=0 a.input.std=1 b.input.colour=bgr and
    so on, and b.names=FILE of embeddings. A and B may be embeddings made elsewhere; images= is for networks.

    Example: faceprint compare runs/first runs/second pairs images=crops pairs=pairs.csv
    """
    from faceprint.evaluation.protocols import protocol_options
    from faceprint.evaluation.uncertainty import compare_evaluations

    allowed = [*protocol_options(protocol), "intervals", *_COMMON, *_OWN]
    options = read_options(assignments or [], allowed, "compare")
    draws = count("intervals", options, 1000, 100_000)
    openers = _openers({"a": first, "b": second}, options)
    pairs = load_pairs(protocol, options, no_images=is_made(first) and is_made(second))
    with launched():
        a, b = (_evaluate(opened, which, pairs) for which, opened in openers.items())
        if not is_first():
            return
        result = compare_evaluations(a, b, pairs, draws)
    columns = ("measure", "A", "B", "B - A", "95 %", "p")
    print_table(f"{second} less {first}", columns, _rows(result), json_target=json_file)
    write_json(result, json_file)


def _openers(models: dict[str, str], options: dict[str, str]) -> dict[str, Opener]:
    """What opens each model, with its own options and, of a network, the common ones."""
    common = {key: options.pop(key) for key in _COMMON if key in options}
    if common and all(map(is_made, models.values())):
        raise UserError(
            f"{', '.join(common)}: for a model; {' and '.join(models.values())} have embeddings that are made"
        )
    given = {
        which: {key.removeprefix(f"{which}."): options.pop(key) for key in [*options] if key.startswith(f"{which}.")}
        for which in models
    }
    return {
        which: source_opener(model, {**({} if is_made(model) else common), **given[which]})
        for which, model in models.items()
    }


def _evaluate(opened: Opener, which: str, pairs: PairSet) -> Evaluation:
    from faceprint.evaluation.protocols import score_source

    with progress_bar(f"embedding, {which.upper()}", "images") as bar:
        return score_source(opened(bar if is_first() else None)[0], pairs)


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
