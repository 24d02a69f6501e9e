"""What fails in the middle: numbers, data workers, processes that hang, a launcher that is told to stop."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import end, finish, metrics, roles, start, steps_done, wait_for, weights, write_recipe

from faceprint.training.checkpoint import list_checkpoints
from faceprint.training.stopping import STOPPED_EXIT

Outcome = Callable[..., None]
pytestmark = pytest.mark.slow


def words(said: str) -> str:
    return " ".join(said.split())


@pytest.mark.parametrize("processes", [1, 2])
def test_numbers_that_stay_infinite_end_the_run_with_a_dump(processes: int, tmp_path: Path, outcome: Outcome) -> None:
    """The learning rate grows without bound: first steps that can be taken, then none."""
    recipe = write_recipe(
        tmp_path,
        optimizer={"lr": 1e30},
        schedule={"name": "constant", "warmup": 50},
        checkpoint={"every": 1, "keep": 2},
        skip_nonfinite=3,
        evaluation={"every": 0},
        log={"every": 1},
    )
    out = tmp_path / "run"
    status, said = finish(start(recipe, out, processes=processes))
    assert status == 1
    (file,) = out.glob("failed_step_*.json")
    dump = json.loads(file.read_text())
    left_out = [record["message"] for record in metrics(out) if record["kind"] == "warning"]
    assert len(left_out) == 4  # those allowed, and the one too many
    assert f"stopped: loss or gradient was not finite in step {dump['step']} and 3 steps before it" in words(said)
    assert str(list_checkpoints(out / "checkpoints")[-1]) in words(said).replace(" ", "")
    assert len(dump["images"]) == 4
    assert dump["learning_rate"] > 0
    outcome(
        f"NaN or infinity in {processes} process{'es' * (processes > 1)}, skip_nonfinite=3",
        steps_left_out=len(left_out),
        status=status,
        dumped=sorted(dump),
        images_named=len(dump["images"]),
    )


@pytest.mark.parametrize("processes", [1, 2])
def test_a_data_worker_that_dies_is_named(processes: int, tmp_path: Path, outcome: Outcome) -> None:
    out = tmp_path / "run"
    training = start(write_recipe(tmp_path, steps=1000), out, processes=processes)
    try:
        wait_for(lambda: steps_done(out) >= 3, training)
        victim = roles(training, processes)["data worker"][-1]
        began = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        status, said = finish(training, timeout=60)
    finally:
        end(training)
    seconds = time.monotonic() - began
    assert status == 1
    assert f"data worker 0 (process {victim}) was killed by SIGKILL while it read batch" in words(said)
    outcome(
        f"kill -9 of a data worker, {processes} process{'es' * (processes > 1)}",
        status=status,
        seconds=round(seconds, 1),
        message=words(said)[words(said).index("data worker 0") :].split(":")[0].replace(str(victim), "N"),
    )


def test_a_process_that_hangs_ends_the_others_in_the_stated_time(tmp_path: Path, outcome: Outcome) -> None:
    """Rank 1 is stopped, as by a debugger or a driver; rank 0 gives up, and torchrun kills who does not answer."""
    out = tmp_path / "run"
    training = start(write_recipe(tmp_path, steps=1000), out, "distributed.timeout_seconds=10", processes=2)
    try:
        wait_for(lambda: steps_done(out) >= 3, training)
        began = time.monotonic()
        os.kill(roles(training, 2)["follower"][0], signal.SIGSTOP)
        status, said = finish(training, timeout=120)
    finally:
        end(training)
    seconds = time.monotonic() - began
    assert status == 1
    assert seconds < 10 + 30 + 50  # the time-out, torchrun's patience, and something for a busy machine
    assert re.search("time(d |)out", said.lower())
    assert "rank      : 0 (local_rank: 0)" in said
    outcome(
        "one of two processes hangs, distributed.timeout_seconds=10",
        status=status,
        seconds=round(seconds, 1),
        who_gave_up="rank 0, by its time-out",
    )


def test_a_launcher_that_is_told_to_stop_saves_and_continues(tmp_path: Path, outcome: Outcome) -> None:
    recipe, out, whole = write_recipe(tmp_path), tmp_path / "run", tmp_path / "whole"
    assert finish(start(recipe, whole, "--processes=2"))[0] == 0
    training = start(recipe, out, "--processes=2")
    wait_for(lambda: steps_done(out) >= 9, training)
    asked = time.monotonic()
    os.kill(training.pid, signal.SIGUSR1)
    status, _ = finish(training)
    seconds = time.monotonic() - asked
    assert status == STOPPED_EXIT
    assert seconds < 30
    assert finish(start(recipe, out, "resume=true", "--processes=2"))[0] == 0
    assert weights(out) == weights(whole)
    assert metrics(out) == metrics(whole)
    outcome(
        "SIGUSR1 to --processes 2",
        status=status,
        seconds=round(seconds, 1),
        tensors_bit_identical=len(weights(out)),
    )
