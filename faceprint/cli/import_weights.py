"""`faceprint import`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional

import typer

from faceprint.cli.model_options import InputOption
from faceprint.cli.output import JsonOption, err, print_table, write_json


def import_weights(
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help="A .pt, .pth, .ckpt, .safetensors or .onnx file of weights.")
    ],
    network: Annotated[str, typer.Option(metavar="NAME", help="The network they are for, such as r50.")],
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="The model folder to write.")],
    embedding_dim: Annotated[
        Optional[int],
        typer.Option(min=1, help="Dimensions of the embedding. Default: the network's own."),
    ] = None,
    options: Annotated[
        Optional[list[str]],
        typer.Option("--option", metavar="KEY=VALUE", help="An option of the network, such as pool_shortcut=true."),
    ] = None,
    overrides: InputOption = None,
    licence: Annotated[str, typer.Option(help="The licence of the weights, noted in the model card.")] = "unknown",
    allow_mismatch: Annotated[
        bool, typer.Option("--allow-mismatch", help="Load what fits; the rest stays as it started.")
    ] = False,
    json_target: JsonOption = None,
) -> None:
    """Make a model folder of weights that others published; their layout is recognised by its names.

    Layouts: arcface_torch (r18 to r200, r2060, mbf, ViT), Switchable-Normalization, AdaFace and CVLface,
    InsightFace_Pytorch, and ONNX files of the 2017 networks. Nothing in the file is run. A tensor that does not match
    is an error.

    Example: faceprint import backbone.pth --network r50 --output models/r50 --licence MIT
    """
    from faceprint.assignments import override, split_assignment
    from faceprint.inference.published import import_weights as make_folder

    report = make_folder(
        weights,
        output,
        network=network,
        embedding_dim=embedding_dim,
        options=override({}, options or []),
        overrides=dict(map(split_assignment, overrides or [])),
        licence=licence,
        allow_mismatch=allow_mismatch,
    )
    counts = {"loaded": report.loaded, **{kind: len(names) for kind, names in _lists(asdict(report)).items()}}
    rows = [(kind, f"{count:,}") for kind, count in counts.items()]
    print_table(f"{output}: {report.layout}", ["tensors", "number"], rows, json_target=json_target)
    if report.note:
        err.print(f"note: {report.note}", markup=False)
    write_json(asdict(report), json_target)


def _lists(report: dict[str, object]) -> dict[str, list[object]]:
    return {kind: names for kind, names in report.items() if isinstance(names, list)}
