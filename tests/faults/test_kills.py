"""kill -9 at any moment: the run that is resumed ends as the undisturbed one, bit for bit."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from runs import end, finish, members, metrics, start, steps_done, wait_for, weights, write_recipe

from faceprint.training.checkpoint import check, list_checkpoints

Outcome = Callable[..., None]


@pytest.mark.parametrize(
    ("processes", "kills"),
    [(1, 3), pytest.param(1, 25, marks=pytest.mark.slow), pytest.param(2, 25, marks=pytest.mark.slow)],
)
def test_killed_runs_end_as_undisturbed_ones(processes: int, kills: int, tmp_path: Path, outcome: Outcome) -> None:
    recipe, chance = write_recipe(tmp_path), random.Random(kills + processes)
    undisturbed = start(recipe, tmp_path / "whole", processes=processes)
    assert finish(undisturbed)[0] == 0
    out, killed = tmp_path / "run", {"leader": 0, "follower": 0, "data worker": 0}
    saved = 0
    for _ in range(kills):
        training = start(recipe, out, *resume(out), processes=processes)
        wait_for(partial(has_passed, out, steps_done(out) + chance.randint(0, 60 // kills)), training)
        time.sleep(chance.random() * 0.3)  # into a step, a checkpoint, an evaluation
        killed[kill_one(training, chance, processes)] += 1
        training.wait(60)
        end(training)
        whole = list_checkpoints(out / "checkpoints")
        assert len(whole) >= min(saved, 1), "a checkpoint was lost"
        saved = len(whole)
        for path in whole:
            check(path)
    assert finish(start(recipe, out, *resume(out), processes=processes))[0] == 0
    assert weights(out) == weights(tmp_path / "whole")
    assert metrics(out) == metrics(tmp_path / "whole")
    outcome(what=f"kill -9 in {processes} process(es)", kills=killed, weights="bit-identical", metrics="identical")


def has_passed(out: Path, step: int) -> bool:
    return steps_done(out) >= min(step + 1, 58)


def resume(out: Path) -> list[str]:
    """How the run goes on; one that has no checkpoint yet starts again."""
    if list_checkpoints(out / "checkpoints"):
        return ["resume=true"]
    shutil.rmtree(out, ignore_errors=True)
    return []


def kill_one(training: object, chance: random.Random, processes: int) -> str:
    """Kill a rank or a data worker; says which."""
    everybody = members(training)  # pyright: ignore[reportArgumentType]
    # Several have a launcher before them, or are gone by themselves, the training being over.
    ranks = everybody[processes > 1 :][:processes] or everybody[:1]
    workers = [number for number in everybody if number not in ranks and is_worker(number)]
    victim = chance.choice([*ranks, *workers[:1]])
    os.kill(victim, signal.SIGKILL)
    return "leader" if victim == ranks[0] else "follower" if victim in ranks else "data worker"


def is_worker(number: int) -> bool:
    """Whether a process is a child of a rank that reads images: not the launcher's, not multiprocessing's tracker."""
    try:
        return b"resource_tracker" not in Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return False
