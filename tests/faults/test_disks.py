"""Disks that are full, folders that cannot be written, checkpoints that are torn or altered, requests to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import finish, metrics, start, steps_done, wait_for, weights, write_recipe

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
    outcome(what=name, status=status, seconds=round(seconds, 1), weights="bit-identical after resume=true")


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
    status, said = finish(start(whole / "recipe.yaml", tmp_path / "run", "resume=true"))
    assert status == 2
    assert str(file) in said.replace("\n", "")
    assert words in said
    status, said = finish(start(whole / "recipe.yaml", tmp_path / "run", "resume=last_good"))
    assert status == 0
    assert "passed over" in said
    assert weights(tmp_path / "run") == weights(whole / "run")
    outcome(what=f"{damage} checkpoint", resume="refused by name", last_good="bit-identical")


def test_another_program_version_or_class_count_is_refused(whole: Path, tmp_path: Path, outcome: Outcome) -> None:
    training = start(whole / "recipe.yaml", tmp_path / "run")
    assert finish(training)[0] == 0
    status, said = finish(
        start(whole / "recipe.yaml", tmp_path / "run", "resume=true", "data.identities=13", "resume_changes=[data]")
    )
    assert status == 2
    assert "of 12 identities, the data has 13" in " ".join(said.split())
    manifest = list_checkpoints(tmp_path / "run" / "checkpoints")[-1] / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": "faceprint-checkpoint/9"}))
    status, said = finish(start(whole / "recipe.yaml", tmp_path / "run", "resume=true"))
    assert status == 2
    assert "not of a checkpoint of this version" in " ".join(said.split())
    outcome(what="wrong version, wrong class count", resume="refused by name")


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own needs root")
def test_a_full_disk_keeps_the_training_and_the_old_checkpoint(tmp_path: Path, outcome: Outcome) -> None:
    """13 MB hold one checkpoint of 8 MB and not two."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=13m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.decode().strip()}")
    try:
        recipe = write_recipe(tmp_path, evaluation={"every": 0}, steps=20)
        status, said = finish(start(recipe, small / "run"))
        saved = [path.name for path in list_checkpoints(small / "run" / "checkpoints")]
        assert saved == ["step_000000005"]
        assert "no checkpoint was written, the training goes on" in " ".join(said.split())
        steps = [record["step"] for record in metrics(small / "run") if record["kind"] == "train"]
        assert steps[-1] == 20
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)
    outcome(what="full disk", status=status, training="goes on, warns", checkpoint="the old one stays")


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path: Path, outcome: Outcome) -> None:
    recipe = write_recipe(tmp_path)
    (tmp_path / "file").write_text("in the way")
    status, said = finish(start(recipe, tmp_path / "file" / "run"))
    assert status == 2
    assert "cannot be written" in " ".join(said.split())
    outcome(what="folder that cannot be written", status=status, message="one line")
