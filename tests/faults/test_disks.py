"""Disks that are full, folders that cannot be written, checkpoints that are torn or altered, requests to stop."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runs import doubled_and_lost, end, finish, metrics, start, steps_done, wait_for, weights, write_recipe

from faceprint.training.checkpoint import SHARED, list_checkpoints
from faceprint.training.stopping import STOPPED_EXIT

Outcome = Callable[..., None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that nothing disturbed, with its recipe beside it."""
    folder = tmp_path_factory.mktemp("whole")
    assert finish(start(write_recipe(folder), folder / "run"))[0] == 0
    return folder


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_run_that_is_asked_to_stop_saves_and_says_so(
    name: str, whole: Path, tmp_path: Path, outcome: Outcome
) -> None:
    training = start(whole / "recipe.yaml", tmp_path / "run")
    wait_for(lambda: steps_done(tmp_path / "run") >= 9, training)
    asked = time.monotonic()
    os.kill(training.pid, getattr(signal, name))
    status, _ = finish(training)
    seconds = time.monotonic() - asked
    assert status == STOPPED_EXIT
    assert seconds < 30
    assert finish(start(whole / "recipe.yaml", tmp_path / "run", "resume=true"))[0] == 0
    assert weights(tmp_path / "run") == weights(whole / "run")
    assert metrics(tmp_path / "run") == metrics(whole / "run")
    outcome(
        f"{name} to one process",
        status=status,
        seconds=round(seconds, 1),
        lines_doubled_and_lost=doubled_and_lost(tmp_path / "run", whole / "run"),
        tensors_bit_identical_after_resume=len(weights(tmp_path / "run")),
    )


@pytest.mark.parametrize(("damage", "words"), [("torn", "torn"), ("flipped bit", "altered")])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used_on_request(
    damage: str, words: str, whole: Path, tmp_path: Path, outcome: Outcome
) -> None:
    training = start(whole / "recipe.yaml", tmp_path / "run")
    wait_for(lambda: len(list_checkpoints(tmp_path / "run" / "checkpoints")) == 2, training)
    os.kill(training.pid, signal.SIGTERM)
    finish(training)
    file = list_checkpoints(tmp_path / "run" / "checkpoints")[-1] / SHARED
    content = bytearray(file.read_bytes())
    if damage == "torn":
        del content[-1000:]
    else:
        content[len(content) // 2] ^= 1
    file.write_bytes(content)
    refused, said = finish(start(whole / "recipe.yaml", tmp_path / "run", "resume=true"))
    assert refused == 2
    assert str(file) in said.replace("\n", "")
    assert words in said
    status, said = finish(start(whole / "recipe.yaml", tmp_path / "run", "resume=last_good"))
    assert status == 0
    assert "passed over" in said
    assert weights(tmp_path / "run") == weights(whole / "run")
    outcome(
        f"{damage} checkpoint",
        resume_true=f"status {refused}, names {file.parent.name}/{file.name}: {words}",
        resume_last_good=f"status {status}",
        tensors_bit_identical=len(weights(tmp_path / "run")),
    )


def test_another_program_version_or_class_count_is_refused(whole: Path, tmp_path: Path, outcome: Outcome) -> None:
    shutil.copytree(whole / "run", tmp_path / "run")
    other_people = ("data.identities=13", "resume_changes=[data]")
    people = refusal(whole, tmp_path, *other_people)
    assert "of 12 identities, the data has 13" in people
    manifest = list_checkpoints(tmp_path / "run" / "checkpoints")[-1] / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": "faceprint-checkpoint/9"}))
    version = refusal(whole, tmp_path)
    assert "not of a checkpoint of this version" in version
    curve = refusal(whole, tmp_path, "optimizer.lr=0.02")
    assert "continues the same curve, but optimizer was" in curve
    outcome(
        "resume=true with another class count, version, or key of the curve",
        classes=people.split(";")[0],
        version=version.partition("(")[0],
        key=curve.partition(" was")[0],
    )


def refusal(whole: Path, folder: Path, *changes: str) -> str:
    """What `resume=true` says about the run in `folder` before it ends with status 2, without the folder's name."""
    status, said = finish(start(whole / "recipe.yaml", folder / "run", "resume=true", *changes))
    assert status == 2
    return " ".join(said.split()).replace(f"{folder}/", "")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 13 MB, which hold one checkpoint of 8 MB and not two."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=13m", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mount {' '.join(arguments)} is not permitted here: {done.stderr.strip()}")


root = pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="a file system of its own needs root")


@root
def test_a_full_disk_keeps_the_training_and_the_old_checkpoint(
    small_disk: Path, tmp_path: Path, outcome: Outcome
) -> None:
    recipe = write_recipe(tmp_path, evaluation={"every": 0}, steps=20)
    status, said = finish(start(recipe, small_disk / "run"))
    assert status == 0, said  # there is room for the model
    saved = [path.name for path in list_checkpoints(small_disk / "run" / "checkpoints")]
    assert saved == ["step_000000005"]
    warnings = " ".join(said.split()).count("no checkpoint was written, the training goes on")
    assert warnings == 3
    steps = [record["step"] for record in metrics(small_disk / "run") if record["kind"] == "train"]
    assert steps[-1] == 20
    outcome("full disk", warnings=warnings, last_step=steps[-1], checkpoints_left=saved, status=status)


@root
@pytest.mark.slow
def test_a_disk_that_fills_up_while_a_run_is_away_is_said_and_loses_nothing(
    small_disk: Path, tmp_path: Path, outcome: Outcome
) -> None:
    recipe, out = write_recipe(tmp_path, evaluation={"every": 0}), small_disk / "run"
    training = start(recipe, out)
    wait_for(lambda: steps_done(out) >= 9, training)
    os.kill(training.pid, signal.SIGKILL)
    finish(training)
    before = (out / "metrics.jsonl").read_bytes()
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"0" * 4096)
    status, said = finish(start(recipe, out, "resume=true"))
    assert status == 2
    assert "No space left" in " ".join(said.split())
    assert (out / "metrics.jsonl").read_bytes() == before
    ballast.unlink()
    finish(start(recipe, tmp_path / "whole"))
    shutil.copytree(out, tmp_path / "run")
    assert finish(start(recipe, tmp_path / "run", "resume=true"))[0] == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    outcome(
        "a disk filled up by others, resume=true",
        status=status,
        after_there_is_room_again=f"{len(weights(tmp_path / 'run'))} tensors bit-identical",
    )


@root
@pytest.mark.slow
def test_a_folder_that_becomes_read_only_keeps_the_training(whole: Path, tmp_path: Path, outcome: Outcome) -> None:
    """And one that can be written again gets checkpoints again."""
    out = tmp_path / "run"
    folder = out / "checkpoints"
    training = start(whole / "recipe.yaml", out)
    try:
        wait_for(lambda: steps_done(out) >= 9, training)
        before = [path.name for path in list_checkpoints(folder)]
        mount("--bind", str(folder), str(folder))
        try:
            mount("-o", "remount,ro,bind", str(folder))
            wait_for(lambda: "warning" in (out / "metrics.jsonl").read_text(), training)
            while_read_only = [path.name for path in list_checkpoints(folder)]
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        status, said = finish(training)
    finally:
        end(training)
    assert status == 0, said
    assert while_read_only[-len(before) :] == before
    warnings = [record["message"] for record in metrics(out) if record["kind"] == "warning"]
    assert all("Read-only file system" in message for message in warnings)
    assert [path.name for path in list_checkpoints(folder)][-1] == "step_000000060"
    assert weights(out) == weights(whole / "run")
    outcome(
        "the folder of the checkpoints becomes read-only for a while",
        warnings=len(warnings),
        checkpoints_meanwhile=while_read_only,
        status=status,
        last_checkpoint=list_checkpoints(folder)[-1].name,
        tensors_bit_identical=len(weights(out)),
    )


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path: Path, outcome: Outcome) -> None:
    recipe = write_recipe(tmp_path)
    (tmp_path / "file").write_text("in the way")
    status, said = finish(start(recipe, tmp_path / "file" / "run"))
    assert status == 2
    assert "cannot be written" in " ".join(said.split())
    message = " ".join(said.split()).split(": ", 1)[-1].replace(f"{tmp_path}/", "")
    outcome("a run folder that cannot be made", status=status, message=message)
