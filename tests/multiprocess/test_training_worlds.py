"""One training, whatever number of processes does it: the same losses, checkpoints that any number continues."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import free_ports, spawn

from faceprint.assignments import override
from faceprint.distributed import world
from faceprint.recipe import validate
from faceprint.training.checkpoint import SHARED, list_checkpoints, load_part
from faceprint.training.initial import read_checkpoint_classes
from faceprint.training.loop import train
from faceprint.training.opening import open_run

GLOBAL_BATCH = 12
SMALL, LARGE = 2e-7, 1e-4
SHARED_OPTIONS = ("classifier.sample_rate=0.7",)
CONFIG: dict[str, Any] = {
    "network": {"name": "mbf", "embedding_dim": 16, "image_size": [32, 32], "options": {"scale": 1}},
    "margin": {"name": "cosface", "options": {"scale": 16.0, "margin": 0.1}},
    "data": {"source": "synthetic", "identities": 13, "images_per_identity": 6},
    "loader": {"workers": 0},
    "augment": {"flip": 0.0},
    "classifier": {"same_for_any_world": True},
    "optimizer": {"lr": 0.005},
    "evaluation": {
        "every": 0,
        "protocols": [{"protocol": "synthetic", "num_identities": 8, "images_per_identity": 3, "num_pairs": 20}],
    },
    "checkpoint": {"every": 0},
    "log": {"every": 1},
    "device": "cpu",
}


@dataclass(frozen=True)
class Job:
    """One training: its run folder, changes of `CONFIG`, and the step after which it is asked to stop (0: never)."""

    folder: str
    changes: tuple[str, ...]
    stop_after: int = 0


def process(number: int, processes: int, port: int, jobs: list[Job]) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(number),
        LOCAL_RANK=str(number),
        WORLD_SIZE=str(processes),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    with world(120):
        for job in jobs:
            run_job(job, number, processes)


def run_job(job: Job, number: int, processes: int) -> None:
    def report(record: dict[str, Any]) -> None:
        if record["step"] == job.stop_after - 1 and number == processes - 1:
            os.kill(os.getpid(), signal.SIGTERM)  # one process is told; all stop after the next step

    changes = [f"out={job.folder}", f"batch_size={GLOBAL_BATCH // processes}", *job.changes]
    outcome = train(open_run(validate(override(CONFIG, changes))), report)
    assert outcome.stopped == bool(job.stop_after)


def trained(processes: int, *jobs: Job) -> list[list[dict[str, Any]]]:
    """The records of these trainings, one after the other in the same processes."""
    spawn(process, (processes, free_ports(1)[0], list(jobs)), processes)
    texts = [Path(job.folder, "metrics.jsonl").read_text() for job in jobs]
    return [[json.loads(line) for line in text.splitlines()] for text in texts]


def losses(records: list[dict[str, Any]]) -> list[float]:
    return [record["loss"] for record in records if record["kind"] == "train"]


def largest_difference(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> float:
    """Of the losses, as a share of the expected one."""
    return max(abs(one - other) / other for one, other in zip(losses(found), losses(expected), strict=True))


@pytest.mark.parametrize(
    ("steps", "worlds"), [(10, (2, 3)), pytest.param(50, (2, 3, 4), marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_the_losses_are_those_of_one_process(
    steps: int, worlds: tuple[int, ...], tmp_path: Path, outcome: Callable[..., None]
) -> None:
    """Small steps, and two large ones, of 1, 2, 3 and 4 processes.

    The sums of a batch in another order differ in their last bits; a step makes that difference larger by its learning
    rate. So the many steps are small (they still take the gradient's length down), and what a large step does is seen
    in the loss after it.
    """

    def jobs(processes: int) -> list[Job]:
        return [
            Job(f"{tmp_path}/{processes} {norm} {lr}", (f"steps={count}", f"optimizer.lr={lr}", *SHARED_OPTIONS, norm))
            for norm in ("network.options.norm=syncbn", "network.options.norm=syncsn")
            for count, lr in ((steps, SMALL), (2, LARGE))
        ]

    expected = trained(1, *jobs(1))
    assert [len(losses(records)) for records in expected] == [steps, 2, steps, 2]
    for processes in worlds:
        differences: dict[int, float] = {}
        for found, alone in zip(trained(processes, *jobs(processes)), expected, strict=True):
            taken = len(losses(alone))
            differences[taken] = max(differences.get(taken, 0.0), largest_difference(found, alone))
            small = len(losses(alone)) == steps
            assert losses(found) == pytest.approx(losses(alone), rel=1e-2 if small else 1e-3), processes
            assert found[0]["gradient_norm"] == pytest.approx(alone[0]["gradient_norm"], rel=1e-3), processes
            assert found[-1]["auc"] == pytest.approx(alone[-1]["auc"], abs=0.1)  # each embedded a share of the images
        outcome(
            f"{processes} processes beside one: sharded classifier, SyncBN and SyncSN",
            largest_difference_of_losses={
                f"in {count} steps of {SMALL if count == steps else LARGE}": f"{difference:.1e}"
                for count, difference in differences.items()
            },
        )


def test_other_numbers_of_processes_continue_a_run(tmp_path: Path, outcome: Callable[..., None]) -> None:
    """4 -> 2 -> 3 -> 1: the same data, the same centres; the losses of an undisturbed run."""
    options = ("steps=16", f"optimizer.lr={SMALL}", "network.options.norm=syncbn", *SHARED_OPTIONS)
    folder = tmp_path / "run"
    records: list[dict[str, Any]] = []
    moved = 0.0
    for processes, stop_after in ((4, 4), (2, 8), (3, 12), (1, 0)):
        before = centres(folder) if records else None
        (records,) = trained(processes, Job(str(folder), (*options, f"resume={bool(records)}"), stop_after))
        if before is not None:
            moved = max(moved, float((centres(folder) - before).norm() / before.norm()))
    assert moved < 0.01  # moved on, not drawn anew
    (alone,) = trained(1, Job(f"{tmp_path}/alone", options))
    assert losses(records) == pytest.approx(losses(alone), rel=1e-2)
    assert [record["step"] for record in records if record["kind"] == "train"] == list(range(1, 17))
    assert records[-1]["accuracy"] == pytest.approx(alone[-1]["accuracy"], abs=0.1)  # of 20 pairs
    outcome(
        "resumed with 4 -> 2 -> 3 -> 1 processes, beside one process undisturbed",
        largest_difference_of_losses=f"{largest_difference(records, alone):.1e}",
        largest_move_of_the_centres_in_a_part=f"{moved:.1e}",
        final_accuracy=[records[-1]["accuracy"], alone[-1]["accuracy"]],
        lines=len(losses(records)),
    )


def test_a_stop_leaves_no_trace(tmp_path: Path) -> None:
    """Each process has running moments of its own: a checkpoint has their mean, and does not put it in their place."""
    options = ("steps=9", "ema=0.9", "checkpoint.keep=9")
    whole, _, rest = trained(
        2,
        Job(f"{tmp_path}/whole", options),
        Job(f"{tmp_path}/parts", options, 4),
        Job(f"{tmp_path}/parts", (*options, "resume=true")),
    )
    assert losses(rest) == losses(whole)
    ends = [list_checkpoints(tmp_path / name / "checkpoints")[-1] for name in ("whole", "parts")]
    for rank in range(2):
        one, other = (load_part(end / f"rank-{rank:05d}.pt")["moments"] for end in ends)
        assert len(one) > 10
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    first, second = (load_part(ends[0] / f"rank-{rank:05d}.pt")["moments"] for rank in range(2))
    assert not any(torch.equal(a, b) for a, b in zip(first[:2], second[:2], strict=True))
    networks = [load_part(end / SHARED)["network"] for end in ends]
    assert all(torch.equal(value, networks[1][name]) for name, value in networks[0].items())


def test_a_static_graph_accumulates(tmp_path: Path) -> None:
    options = ("steps=3", "accumulate=2", "optimizer.lr=1e-4")
    plain, static = trained(
        2,
        Job(f"{tmp_path}/plain", options),
        Job(f"{tmp_path}/static", (*options, "distributed.static_graph=true")),
    )
    assert losses(static) == pytest.approx(losses(plain), rel=1e-4)
    assert static[0]["gradient_norm"] == pytest.approx(plain[0]["gradient_norm"], rel=1e-4)


def centres(folder: Path) -> torch.Tensor:
    found = read_checkpoint_classes(list_checkpoints(folder / "checkpoints")[-1])
    assert found is not None
    return found.state["centres"]
