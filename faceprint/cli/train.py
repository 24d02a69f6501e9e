"""`faceprint train`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from faceprint.cli.launch import start_processes
from faceprint.cli.output import JsonOption, err, print_table, write_json

if TYPE_CHECKING:
    from faceprint.classifier.estimate import HeadEstimate


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A bundled recipe (`faceprint zoo` lists them) or a YAML file.")
    ],
    overrides: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="key=value", help="Keys of the recipe with dotted names, such as optimizer.lr=0.05."),
    ] = None,
    processes: Annotated[
        int, typer.Option(metavar="N", help="Train in N processes of this machine, as torchrun would start them.")
    ] = 1,
    local_rank: Annotated[
        int, typer.Option("--local-rank", "--local_rank", hidden=True, help="Of old launchers; LOCAL_RANK counts.")
    ] = 0,
    json_file: JsonOption = None,
) -> None:
    """Train a network by a recipe and write a run folder.

    The run folder (out=DIR) holds config.yaml, metrics.jsonl, checkpoints/ and model/. Useful keys: out=DIR, steps=N,
    epochs=N, seed=N, batch_size=N, device=cpu, resume=true (continue the run in out), dry_run=true (tuning mode: save
    nothing).

    Example: faceprint train quickstart out=runs/first steps=100

    On several GPUs or machines: faceprint train RECIPE --processes 8, or torchrun --nproc-per-node 8 [--nnodes …] -m
    faceprint train RECIPE. A training that is asked to stop (SIGTERM, SIGUSR1) saves a checkpoint and exits with
    status 75; resume=true continues it, and resume=auto starts or continues, whichever it is.
    """
    if processes > 1:
        start_processes(processes)
    from faceprint.distributed import rank, world
    from faceprint.errors import WorkerDied
    from faceprint.recipe import load_config
    from faceprint.training.loop import TrainingFailedError
    from faceprint.training.loop import train as train_run
    from faceprint.training.opening import open_run
    from faceprint.training.stopping import STOPPED_EXIT

    config = load_config(recipe, overrides or [])
    with world(config.distributed.timeout_seconds):
        run = open_run(config)
        if rank() == 0:
            err.print(describe(run), markup=False)
        try:
            with _Bar(run) as report:
                outcome = train_run(run, report)
        except (TrainingFailedError, WorkerDied) as error:
            err.print(f"stopped: {error}", style="bold red", markup=False)
            sys.exit(1)
        if rank() == 0:
            show(run, outcome, json_file)
    if outcome.stopped:
        sys.exit(STOPPED_EXIT)


def show(run: Any, outcome: Any, json_file: str | None) -> None:
    """The end of the command: a table, what could not be read, and the JSON."""
    result = summary(run, outcome)
    shown = [
        (key.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else str(value))
        for key, value in result.items()
        if value is not None and key not in ("evaluations", "head_estimate", "profile")
    ]
    shown += [(f"{record['protocol']}: accuracy", f"{record['accuracy']:.4f}") for record in result["evaluations"]]
    print_table("Training", ("", ""), shown, json_target=json_file)
    if outcome.profile:
        show_profile(outcome.profile, json_file)
    for name, reason in list(outcome.unreadable.items())[:10]:
        err.print(f"unreadable: {reason or name}", markup=False)
    if outcome.stopped:
        err.print(f"stopped at step {run.step} as asked; resume=true continues", markup=False)
    write_json(result, json_file)


def show_profile(rows: list[Any], json_file: str | None) -> None:
    """Where the time of the traced steps went."""
    on_device = rows[0].device_milliseconds is not None
    table = [(row.part, f"{row.milliseconds:.2f}", f"{row.share:.1%}") for row in rows]
    if on_device:
        table = [(*cells, f"{row.device_milliseconds:.2f}") for cells, row in zip(table, rows, strict=True)]
    columns = ("part", "ms a step", "share", *(("GPU ms",) if on_device else ()))
    print_table("Time by part (communication goes on beside the others)", columns, table, json_target=json_file)


def describe(run: Any) -> str:
    """Two lines before the first step: what is trained on what, with which derived numbers."""
    from faceprint.data.passed_over import skipped
    from faceprint.distributed import world_size

    config, plan = run.config, run.trainer.plan
    parameters = sum(weight.numel() for weight in run.trainer.network.parameters())
    where = "dry run: nothing is saved" if run.folder is None else f"run folder {run.folder}"
    if run.step:
        where += f", resumed at step {run.step}"
    where += "".join(f"\npassed over: {mistake}" for mistake in run.passed_over)
    passes = (
        f" ({config.batch_size} x {world_size()} processes x {plan.accumulate})"
        if plan.global_batch != config.batch_size
        else ""
    )
    passed_over = "".join(f"\npassed over: {count:,} {what}" for what, count in skipped(run.trainer.source).items())
    origin = f"\nstarts from: {run.trainer.origin}" if run.trainer.origin else ""
    return (
        f"{config.network.name} ({parameters / 1e6:.2f} M parameters), {config.margin.name},"
        f" {plan.num_images:,} images of {plan.num_classes:,} identities, {run.trainer.device}\n"
        f"{plan.total_steps:,} steps of {plan.global_batch} images{passes} ({plan.epoch(plan.total_steps):.1f} epochs),"
        f" learning rate {plan.base_lr:g}{describe_head(run.trainer.head)}; {where}{origin}{passed_over}"
    )


def describe_head(head: HeadEstimate | None) -> str:
    """What the class centres will take, and advice where there is any."""
    if head is None:
        return ""
    advice = f" ({head.advice})" if head.advice else ""
    return f"; class centres take {head.bytes / 2**20:,.0f} MiB and about {1e3 * head.seconds:,.1f} ms a step{advice}"


def summary(run: Any, outcome: Any) -> dict[str, Any]:
    """The result of the command, as it goes into JSON."""
    return {
        "run": None if run.folder is None else str(run.folder),
        "model": None if run.folder is None else str(run.folder / "model"),
        "steps": run.step,
        "seconds": round(outcome.seconds, 1),
        "loss": outcome.train_record.get("loss"),
        "samples_per_second": outcome.train_record.get("samples_per_second"),
        "data_wait_fraction": outcome.train_record.get("data_wait_fraction"),
        "unreadable_images": len(outcome.unreadable),
        "head_estimate": None if run.trainer.head is None else asdict(run.trainer.head),
        "best_accuracy": run.best,
        "evaluations": outcome.evaluation_records,
        **({"profile": [asdict(row) for row in outcome.profile]} if outcome.profile else {}),
    }


class _Bar:
    """A progress bar on standard error that shows the figures of the last record; a line for each evaluation."""

    def __init__(self, run: Any) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        from faceprint.distributed import rank

        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._shown = rank() == 0
        self._progress = Progress(*columns, console=err)
        self._task = self._progress.add_task("starting", total=run.trainer.plan.total_steps, completed=run.step)

    def __enter__(self) -> Any:
        if not self._shown:
            return lambda record: None
        self._progress.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _show(self, record: dict[str, Any]) -> None:
        if record["kind"] == "evaluation":
            accuracy, seconds = f"accuracy {record['accuracy']:.4f}", f"{record['seconds']:.1f} s"
            err.print(f"step {record['step']}: {record['protocol']} {accuracy} ({seconds})", markup=False)
            return
        text = (
            f"loss {record['loss']:.3f}  {record['samples_per_second']:.0f} images/s"
            f"  data wait {record['data_wait_fraction']:.0%}"
        )
        if not err.is_terminal:  # a log file: a line a record instead of a bar that moves
            err.print(f"step {record['step']}: {text}", markup=False)
        self._progress.update(self._task, completed=record["step"], description=text)
