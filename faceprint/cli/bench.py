"""`faceprint bench`: the fast path against the plain one, in one run."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from faceprint.cli.output import JsonOption, err, print_table, progress_bar, write_json
from faceprint.files import write_whole

app = typer.Typer(
    name="bench",
    help="Time the fast path against the plain one (eager, float32, contiguous), in turn in one process.",
    no_args_is_help=True,
)

NetworkArgument = Annotated[str, typer.Argument(metavar="NETWORK", help="A name such as mbf or r50.")]


@app.command("train")
def train(
    network: NetworkArgument = "mbf",
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 64,
    steps: Annotated[int, typer.Option(help="Timed steps of each path in each of two turns.")] = 5,
    precision: Annotated[str, typer.Option(help="Of the fast path: auto, fp32, bf16 or fp16.")] = "auto",
    compile_network: Annotated[bool, typer.Option("--compile/--no-compile", help="Of the fast path.")] = True,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    save: Annotated[Optional[Path], typer.Option(metavar="FILE.json", help="Store the result as a baseline.")] = None,
    baseline: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE.json", help="Compare the fast path with a stored result; slower is exit status 1."),
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, max=1, help="How much slower counts as equal.")] = 0.1,
    json_file: JsonOption = None,
) -> None:
    """Time training steps: forward, backward and update. The losses of both paths are compared.

    Example: faceprint bench train r50 --batch-size 32 --precision bf16

    Has a change made it slower? --save before.json first, --baseline before.json --tolerance 0.1 afterwards.
    """
    from faceprint.training.benchmark import benchmark_training, compare, read_baseline

    stored = read_baseline(baseline) if baseline is not None else None  # a mistake is said before minutes of work
    fast = {"precision": precision, "compile": compile_network, "channels_last": True}
    with progress_bar("steps", "steps") as progress:
        result = benchmark_training(
            network, batch_size=batch_size, steps=steps, fast=fast, device=device, progress=progress
        )
    if save is not None:
        write_whole(save, (json.dumps(result, indent=1) + "\n").encode())
    compared = compare(result, stored, tolerance) if stored is not None else None
    _report(result, "samples_per_second", json_file, compared and asdict(compared))
    if compared is not None and compared.slower:
        err.print(f"slower: {compared.ratio:.2f}x of {baseline}, less than {1 - tolerance:.2f}x", style="bold red")
        sys.exit(1)


@app.command("eval")
def evaluate(
    network: NetworkArgument = "mbf",
    batch_size: Annotated[int, typer.Option(help="Images a batch.")] = 64,
    batches: Annotated[int, typer.Option(help="Timed batches of each path.")] = 5,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    json_file: JsonOption = None,
) -> None:
    """Time embedding. The embeddings of both paths are compared.

    Example: faceprint bench eval r50 --batch-size 16
    """
    from faceprint.inference.benchmark import benchmark_embedding

    with progress_bar("batches", "batches") as progress:
        result = benchmark_embedding(network, batch_size=batch_size, batches=batches, device=device, progress=progress)
    _report(result, "images_per_second", json_file)


def _report(result: dict[str, Any], speed: str, json_file: str | None, compared: dict[str, Any] | None = None) -> None:
    rows = [(path, f"{result[path][speed]:,.1f}") for path in ("plain", "fast")]
    rows.append(("speed-up", f"{result['speedup']:.2f}x"))
    difference = next(key for key in result if key.startswith("largest_"))
    rows.append((difference.replace("_", " "), f"{result[difference]:.2g}"))
    if compared is not None:
        rows.append(("baseline", f"{compared['before']:,.1f}"))
        rows.append(("fast to baseline", f"{compared['ratio']:.2f}x"))
        result = {**result, "baseline": compared}
    title = f"{result['network']}, batch {result['batch_size']}, {result['device']}, {result['threads']} threads"
    print_table(title, ("path", speed.replace("_", " ")), rows, json_target=json_file)
    write_json(result, json_file)
