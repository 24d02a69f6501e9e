"""Arguments and options of every command that opens a model."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, a model folder or an ONNX file.")]
InputOption = Annotated[
    Optional[list[str]],
    typer.Option(
        "--input",
        metavar="KEY=VALUE",
        help="What a foreign ONNX file takes: colour=rgb|bgr, mean=127.5, std=127.5, size=112x112 (the defaults).",
    ),
]
AlignOption = Annotated[bool, typer.Option("--align", help="Images are photographs: find and crop the face in each.")]
DetectorOption = Annotated[
    Optional[str],
    typer.Option(metavar="FILE", help="YuNet face detector (ONNX) for --align. Default: fetched from the OpenCV Zoo."),
]
FlipOption = Annotated[bool, typer.Option("--flip", help="Add the embedding of the mirror image, as published.")]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Images the network computes at a time.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
