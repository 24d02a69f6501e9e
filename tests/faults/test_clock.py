"""A system time that jumps to and fro by days, and files whose times say nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from runs import RECIPE, doubled_and_lost, finish, metrics, start, wait_for, weights, write_recipe

from faceprint.training.checkpoint import list_checkpoints

Outcome = Callable[..., None]
DAY = 86400.0
SOURCE = Path(__file__).with_name("jumping_clock.c")
compiled = pytest.mark.skipif(shutil.which("cc") is None, reason="the wrong clock is written in C: no compiler here")


@pytest.fixture(scope="session")
def wrong_clock(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library that makes the time of who loads it jump."""
    library = tmp_path_factory.mktemp("clock") / "jumping_clock.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return str(library)


@compiled
@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_clock_that_jumps_changes_nothing(processes: int, wrong_clock: str, tmp_path: Path, outcome: Outcome) -> None:
    recipe, out, whole = write_recipe(tmp_path), tmp_path / "run", tmp_path / "whole"
    assert finish(start(recipe, whole, processes=processes))[0] == 0
    since = time.monotonic()
    status, said = finish(start(recipe, out, processes=processes, LD_PRELOAD=wrong_clock))
    elapsed = time.monotonic() - since
    assert status == 0, said
    back = [before - after for before, after in pairwise(stamps(out)) if after < before]
    assert back, "the time did not jump back"
    assert 0 < seconds_of_steps(out, processes) < elapsed
    speeds = [record["images_per_second"] for record in lines(out) if record["kind"] == "evaluation"]
    assert all(1 / elapsed < speed < 1e6 for speed in speeds)
    assert set(re.findall(r"Required: (\S+) hours", (out / "training.log").read_text())) == {"0"}
    assert weights(out) == weights(whole)
    assert metrics(out) == metrics(whole)
    outcome(
        f"the system time jumps, in {processes} process{'es' * (processes > 1)}",
        jumps_back_in_the_log=len(back),
        longest_hours=round(max(back) / 3600, 1),
        seconds_by_the_log=round(seconds_of_steps(out, processes), 1),
        seconds_elapsed=round(elapsed, 1),
        lines_doubled_and_lost=doubled_and_lost(out, whole),
        tensors_bit_identical=len(weights(out)),
    )


@pytest.mark.slow
def test_times_of_files_do_not_choose_the_checkpoint(tmp_path: Path, outcome: Outcome) -> None:
    """The older checkpoint seems to be of tomorrow, the newest of 1970."""
    recipe, out, whole = write_recipe(tmp_path), tmp_path / "run", tmp_path / "whole"
    assert finish(start(recipe, whole))[0] == 0
    training = start(recipe, out)
    wait_for(lambda: len(list_checkpoints(out / "checkpoints")) == 2, training)
    os.kill(training.pid, signal.SIGTERM)
    finish(training)
    old, new = list_checkpoints(out / "checkpoints")
    for path, when in ((old, time.time() + DAY), (new, 0.0)):
        for file in [*path.iterdir(), path]:
            os.utime(file, (when, when))
    status, said = finish(start(recipe, out, "resume=true"))
    assert status == 0, said
    assert f"resumed at step {int(new.name[5:])}" in " ".join(said.split())
    assert [path.name for path in list_checkpoints(out / "checkpoints")] == kept(whole)
    assert weights(out) == weights(whole)
    outcome(
        "the newest checkpoint has the time of 1970, the one before of tomorrow",
        resumed_at=int(new.name[5:]),
        not_at=int(old.name[5:]),
        kept_at_the_end=kept(out),
        tensors_bit_identical=len(weights(out)),
    )


def kept(out: Path) -> list[str]:
    return [path.name for path in list_checkpoints(out / "checkpoints")]


def stamps(out: Path) -> list[float]:
    """The times before the lines of training.log, in seconds."""
    found = re.findall(r"Training: (\S+ \S+)-", (out / "training.log").read_text())
    return [datetime.strptime(stamp[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp() for stamp in found]


def lines(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def seconds_of_steps(out: Path, processes: int) -> float:
    """What the steps took by the speeds in metrics.jsonl."""
    images = RECIPE["log"]["every"] * RECIPE["batch_size"] * processes
    return sum(images / record["samples_per_second"] for record in lines(out) if record["kind"] == "train")
