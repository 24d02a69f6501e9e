"""`faceprint doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from faceprint.cli.model_options import ModelArgument
from faceprint.cli.output import JsonOption, err, out, print_table, progress_bar, write_json
from faceprint.cli.subject import INPUT_KEYS, count, is_made, load_pairs, read_options, source_opener
from faceprint.errors import UserError

if TYPE_CHECKING:
    from faceprint.inference.embedder import Embedder


def doctor(
    model: ModelArgument,
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help="pairs, bin or synthetic.")] = "synthetic",
    assignments: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="key=value", help="Options of the pairs and of the model, as for `faceprint eval`."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Find out what a network wants to be fed: colour order, scale of the pixels, tightness of the crops, flip.

    Each is tried on max_pairs=300 pairs of each kind, and called better only where a significance test says so. For a
    network that was not trained on generated people only pairs of photographs tell: give some of your own, aligned.
    batch_size=64 device=auto cache=DIR are as for `faceprint eval`.

    Example: faceprint doctor model.onnx pairs images=crops pairs=pairs.csv
    """
    from faceprint.evaluation.doctor import diagnose, some_of
    from faceprint.evaluation.protocols import protocol_options
    from faceprint.evaluation.sources import ModelSource

    if is_made(model):
        raise UserError(f"{model}: embeddings that are made, which say nothing of what the network was fed; give it")
    allowed = [*protocol_options(protocol), "max_pairs", "batch_size", "device", "cache", *INPUT_KEYS]
    options = read_options(assignments or [], allowed, f"doctor {protocol}")
    max_pairs, opened = count("max_pairs", options, 300, 1000), source_opener(model, options)
    pairs = some_of(load_pairs(protocol, options), max_pairs)
    with progress_bar("trying", "images") as progress:
        source, embedder = opened(progress)
        assert isinstance(source, ModelSource)
        assert embedder is not None
        result = diagnose(source, pairs)
    result |= {"model": model, "protocol": protocol, "photographs": protocol != "synthetic"}
    result["overrides"] = _words(result, embedder)
    _show(result, json_file)
    write_json(result, json_file)


def _words(result: dict[str, Any], embedder: Embedder) -> list[str]:
    from faceprint.evaluation.doctor import overrides

    return overrides(result["best"], embedder.input) if result["told_apart"] else []


def _show(result: dict[str, Any], json_file: str | None) -> None:
    rows = [
        [trial["name"], _or_dash(trial["separation"], "{:.3f}"), _or_dash(trial["accuracy"], "{:.2%}")]
        for trial in result["trials"]
    ]
    title = f"{result['model']}: {result['num_pairs']} pairs"
    print_table(title, ("fed as", "separation d'", "best accuracy"), rows, json_target=json_file)
    for line in (*map(_evidence, result["findings"]), *_verdict(result)):
        (err if json_file == "-" else out).print(line, markup=False)


def _evidence(finding: dict[str, Any]) -> str:
    sure = "" if finding["significant"] else ", which is no evidence"
    return (
        f"{finding['question']}: {finding['better']} above {finding['worse']} by d' {finding['difference']:.3f}"
        f" ({finding['low']:.3f} to {finding['high']:.3f}), p = {finding['p_value']:.3g}{sure}"
    )


def _verdict(result: dict[str, Any]) -> list[str]:
    if not result["told_apart"]:
        lines = ["In no way tried does the network tell these people apart: nothing can be said about its input."]
    elif result["best"]["name"] == result["as_configured"]["name"]:
        lines = ["As it is configured is best, or as good as any other way tried."]
    else:
        lines = [f"Best: {result['best']['name']}. {_advice(result)}"]
    lines += [
        f"{finding['better']} may be better than {finding['worse']}, which is in force; more pairs would tell."
        for finding in result["findings"]
        if finding["in_force"] == "worse" and not finding["significant"]
    ]
    if not result["photographs"]:
        lines.append(
            "These are generated people: of a network trained on photographs they say little. Give real pairs."
        )
    return lines


def _advice(result: dict[str, Any]) -> str:
    best = result["best"]
    advice = [f"Give {' '.join(result['overrides'])}."] if result["overrides"] else []
    if best["zoom"] != 1:
        advice.append(
            f"The crops are too {'loose' if best['zoom'] > 1 else 'tight'}: align them with `faceprint data align`."
        )
    if best["flip"]:
        advice.append("flip=true helps.")
    return " ".join(advice)


def _or_dash(value: float | None, form: str) -> str:
    return "not finite" if value is None else form.format(value)
