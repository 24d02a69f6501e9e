"""kill -9 at random moments, and going on with `resume=auto`.

The run that is resumed ends as the undisturbed one, bit for bit.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import doubled_and_lost, end, finish, is_running, metrics, roles, start, steps_done, weights, write_recipe

from faceprint.training.checkpoint import check, list_checkpoints

Outcome = Callable[..., None]
MARKED = Path(__file__).with_name("marked.py")
MOMENTS = ("the start", "a step", "a checkpoint write", "an evaluation")
LAST_AIM = 45
"""Later than this step, of 60, no kill waits for more steps: the training could end before it."""


@pytest.mark.parametrize(
    ("processes", "kills"),
    [(1, 2), pytest.param(1, 25, marks=pytest.mark.slow), pytest.param(2, 25, marks=pytest.mark.slow)],
)
def test_killed_runs_end_as_undisturbed_ones(processes: int, kills: int, tmp_path: Path, outcome: Outcome) -> None:
    scene = Scene(tmp_path, processes, random.Random(kills + processes))
    assert finish(scene.start(scene.whole))[0] == 0
    for number in range(kills):
        scene.kill_once(MOMENTS[(number + 1) % len(MOMENTS)])
    assert finish(scene.start(scene.out))[0] == 0
    doubled, lost = doubled_and_lost(scene.out, scene.whole)
    assert weights(scene.out) == weights(scene.whole)
    assert metrics(scene.out) == metrics(scene.whole)
    assert (scene.checkpoints_lost, doubled, lost) == (0, 0, 0)
    outcome(
        f"kill -9, {kills} times, of a training in {processes} process{'es' * (processes > 1)}",
        victims=scene.victims,
        moments=scene.moments,
        longest_until_all_ended=f"{scene.longest_end:.1f} s",
        checkpoints_lost=scene.checkpoints_lost,
        lines_doubled=doubled,
        lines_lost=lost,
        tensors_bit_identical=len(weights(scene.out)),
    )


class Scene:
    """A run that is killed again and again, and the undisturbed one beside it."""

    def __init__(self, folder: Path, processes: int, chance: random.Random) -> None:
        self.recipe, self.out, self.whole = write_recipe(folder), folder / "run", folder / "whole"
        self.processes, self.chance = processes, chance
        self.evaluating = folder / "evaluating"
        self.victims: Counter[str] = Counter()
        self.moments: Counter[str] = Counter()
        self.checkpoints_lost = 0
        self.longest_end = 0.0
        self.first, self.checkpoint, self.torn = 0, 0, self.unfinished()

    def start(self, out: Path) -> subprocess.Popen[str]:
        self.evaluating.unlink(missing_ok=True)
        return start(
            *(self.recipe, out, "resume=auto"),
            processes=self.processes,
            script=MARKED,
            EVALUATING=str(self.evaluating),
        )

    def kill_once(self, aim: str) -> None:
        """Start or resume, kill at about the moment `aim`, and see what is left."""
        self.first, self.checkpoint, self.torn = steps_done(self.out), self.saved_step(), self.unfinished()
        training, everybody = self.start(self.out), set[int]()
        try:
            self.wait_until(aim, training)
            saved = self.saved_step()
            everybody = self.kill_one(training)
            self.wait_for_the_end_of(everybody, training)
        finally:
            end(training, everybody)
        self.moments[self.moment()] += 1
        self.checkpoints_lost += self.saved_step() < saved
        for path in list_checkpoints(self.out / "checkpoints"):
            check(path)

    def wait_until(self, aim: str, training: subprocess.Popen[str]) -> None:
        if aim == "the start":
            time.sleep(self.chance.uniform(0.1, 6))  # seconds: Python, torch, the network, the checkpoint that is read
            return
        some_steps = min(self.first + self.chance.randint(1, 6), LAST_AIM)
        reached = {
            "a step": lambda: steps_done(self.out) >= some_steps,
            "a checkpoint write": self.is_writing,
            "an evaluation": self.evaluating.exists,
        }[aim]
        until = time.monotonic() + 120
        while not reached() and training.poll() is None:
            assert time.monotonic() < until, f"waited too long for {aim}"
            time.sleep(0.001)
        time.sleep(self.chance.random() * {"a step": 0.3, "an evaluation": 0.1}.get(aim, 0.005))

    def kill_one(self, training: subprocess.Popen[str]) -> set[int]:
        """Kill a process of the training; returns all that were there."""
        found = roles(training, self.processes)
        if found:  # else it has ended by itself
            role = self.chance.choice(sorted(found))
            os.kill(self.chance.choice(found[role]), signal.SIGKILL)
            self.victims[role] += 1
        return {number for numbers in found.values() for number in numbers}

    def wait_for_the_end_of(self, everybody: set[int], training: subprocess.Popen[str]) -> None:
        """Whoever was killed, the others end by themselves."""
        since = time.monotonic()
        while any(is_running(number) for number in everybody) or training.poll() is None:
            assert time.monotonic() - since < 60, f"of {everybody} some go on"
            time.sleep(0.01)
        self.longest_end = max(self.longest_end, time.monotonic() - since)

    def saved_step(self) -> int:
        """Of the newest checkpoint; 0 where there is none."""
        return max((int(path.name[5:]) for path in list_checkpoints(self.out / "checkpoints")), default=0)

    def unfinished(self) -> set[tuple[int, int]]:
        """What tells one folder that is being written from another of its name: its inode, and when it changed."""
        found = [path.stat() for path in (self.out / "checkpoints").glob("*.part")]
        return {(status.st_ino, status.st_mtime_ns) for status in found}

    def is_writing(self) -> bool:
        try:
            return bool(self.unfinished() - self.torn)
        except FileNotFoundError:  # it was finished meanwhile
            return False

    def moment(self) -> str:
        """Where the kill found the run, as what it left behind says."""
        if self.evaluating.exists():
            return "an evaluation"
        if self.is_writing():
            return "a checkpoint write"
        went_on = self.first != steps_done(self.out) > self.checkpoint
        return "a step" if went_on else "the start"
