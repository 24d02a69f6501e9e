"""`faceprint export`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional

import typer

from faceprint.cli.output import JsonOption, err, print_table, write_json


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder or a model folder.")],
    output: Annotated[Path, typer.Option(metavar="FILE", help="The file to write: .onnx, or .pt with --layout.")],
    tolerance: Annotated[
        float, typer.Option(help="Largest difference allowed in a coordinate of an embedding of length 1.")
    ] = 1e-4,
    layout: Annotated[
        Optional[str],
        typer.Option(metavar="NAME", help="Write the weights as a state dict for another code base: arcface_torch."),
    ] = None,
    json_target: JsonOption = None,
) -> None:
    """Write a network as ONNX, compare it with the original, and say how far they differ.

    The file takes float32 (N, 3, height, width), RGB, (x - 127.5) / 127.5, as insightface and OpenCV users feed it, and
    gives raw embeddings (N, D). What the model card says is in its metadata. Nothing is written where it differs.

    With --layout the weights alone are written, as a .pt file that arcface_torch loads.

    Example: faceprint export runs/first --output first.onnx
    """
    if layout is not None:
        _export_weights(model, output, layout, json_target)
        return
    from faceprint.inference.export import ExportError, export_onnx

    try:
        report = export_onnx(model, output, tolerance=tolerance)
    except ExportError as error:
        err.print(f"error: {error}", style="bold red", markup=False)
        raise typer.Exit(1) from error
    rows = [(f"{size}", f"{difference:.2e}") for size, difference in report.differences.items()]
    title = f"{output}: {report.num_bytes / 1e6:.1f} MB, opset {report.opset}, embeddings of {report.embedding_dim}"
    print_table(title, ["batch size", "largest difference"], rows, json_target=json_target)
    write_json(asdict(report), json_target)


def _export_weights(model: str, output: Path, layout: str, json_target: str | None) -> None:
    from faceprint.inference.published import export_weights

    report = export_weights(model, output, layout=layout)
    err.print(
        f"{output}: {report.layout}, {report.num_tensors:,} tensors, {report.num_bytes / 1e6:.1f} MB", markup=False
    )
    write_json(asdict(report), json_target)
