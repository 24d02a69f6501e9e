"""`faceprint data pairs`: verification pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from faceprint.cli.data_check import SourceArgument
from faceprint.cli.embed import open_model
from faceprint.cli.model_options import BatchSizeOption, DeviceOption, InputOption
from faceprint.cli.output import JsonOption, err, progress_bar, write_json

app = typer.Typer(
    name="pairs",
    help="Verification pairs: make them from any labelled set.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.callback()
def pairs() -> None:
    """Keeps `make` a command of its own."""


@app.command()
def make(
    source: SourceArgument,
    output: Annotated[
        Path, typer.Option(metavar="FILE", help=".csv (path_a,path_b,same,fold), .txt (as LFW's pairs.txt) or .bin.")
    ],
    num_pairs: Annotated[int, typer.Option(min=2, help="Half of one person, half of two.")] = 6000,
    folds: Annotated[int, typer.Option(min=1, help="No person is in two of them.")] = 10,
    max_images: Annotated[int, typer.Option(min=1, help="Images of one person that take part, at most.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other pairs.")] = 0,
    hard: Annotated[
        Optional[str],
        typer.Option(metavar="MODEL", help="Take the pairs that this model finds hardest, instead of random ones."),
    ] = None,
    batch_size: BatchSizeOption = 64,
    overrides: InputOption = None,
    device: DeviceOption = "auto",
    json_target: JsonOption = None,
) -> None:
    """Make verification pairs: seeded, balanced, no pair twice, folds that share no person.

    Example: faceprint data pairs make crops --output pairs.csv --num-pairs 600
    """
    from faceprint.data.make_pairs import pair_writer, random_pairs
    from faceprint.training.open_set import open_set

    labelled = open_set(source)
    write = pair_writer(output, labelled)
    if hard is None:
        drawn = random_pairs(labelled, num_pairs, folds=folds, seed=seed, max_images=max_images)
    else:
        from faceprint.evaluation.hard_pairs import hard_pairs

        embedder = open_model(hard, overrides, device)
        with progress_bar("embedding", "images") as progress:
            drawn = hard_pairs(
                embedder,
                labelled,
                num_pairs,
                folds=folds,
                seed=seed,
                max_images=max_images,
                batch_size=batch_size,
                device=device,
                progress=progress,
            )
    write(drawn)
    result = {"output": str(output), "num_pairs": len(drawn.same), "folds": int(drawn.fold.max())}
    err.print(f"{result['num_pairs']:,} pairs in {result['folds']} folds in {output}", markup=False)
    write_json(result, json_target)
