"""`faceprint data bench` and `faceprint data preview`: what training gets of a set, and how fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from faceprint.cli.data_check import SourceArgument
from faceprint.cli.output import JsonOption, err, print_table, write_json


def bench(
    source: SourceArgument,
    workers: Annotated[
        Optional[int],
        typer.Option(metavar="N", help="Processes that decode. Default: as training has it.", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Images a batch.")] = 128,
    images: Annotated[int, typer.Option(metavar="N", help="About how many images each part goes through.")] = 10000,
    json_target: JsonOption = None,
) -> None:
    """Measure how fast a set is read, decoded and loaded, and say what limits it.

    Example: faceprint data bench crops --workers 2
    """
    from faceprint.data.benchmark import benchmark_loading
    from faceprint.data.loader import default_workers
    from faceprint.training.open_set import open_set

    result = benchmark_loading(
        open_set(source),
        workers=default_workers() if workers is None else workers,
        batch_size=batch_size,
        images=images,
    )
    rows = [(name, f"{value:,}") for name, value in result["images_per_second"].items()]
    rows.append(("loader / decode", f"{result['loader_share_of_decoder']:.0%}"))
    title = f"{source}: {result['images']:,} images, {result['workers']} workers, {result['cores']} cores"
    print_table(title, ("", "images/s"), rows, json_target=json_target)
    err.print(f"limited by {result['limit']}", markup=False)
    write_json(result, json_target)


def preview(
    what: Annotated[str, typer.Argument(metavar="RECIPE|SRC", help="A recipe, or a labelled set of crops.")],
    output: Annotated[Path, typer.Option("--output", metavar="FILE.png", help="The picture.")],
    overrides: Annotated[
        Optional[list[str]],
        typer.Argument(
            metavar="key=value", help="Keys of the recipe, such as augment.preset=robust or augment.jpeg=0.5."
        ),
    ] = None,
) -> None:
    """Draw what augmentation makes of the faces: as they are, as training sees them, and each part alone.

    Example: faceprint data preview quickstart augment.preset=robust --output sheet.png
    """
    import cv2

    from faceprint.files import write_whole
    from faceprint.training.preview import preview as make

    sheet, config = make(what, overrides or [])
    write_whole(output, cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
    err.print(
        f"{output}: augment.preset={config.augment.preset}, {sheet.shape[1]}x{sheet.shape[0]} pixels", markup=False
    )
