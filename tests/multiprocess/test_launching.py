"""Processes that torchrun starts: who is missing is named, who fails is named, who is started again continues."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from test_training_worlds import CONFIG

from faceprint.training.dist_check import Facts, differences

HERE = Path(__file__).parent
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1")
OURS = ("-c", "from faceprint.cli.launch import main; main()", "--standalone", "--nproc-per-node", "2")


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    path = f"{HERE.parent.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **environment}
    return subprocess.Popen(
        [sys.executable, *arguments], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        output, messages = process.communicate(timeout=240)
    finally:
        process.kill()
    return process.returncode, output, messages


@pytest.fixture
def recipe(tmp_path: Path) -> tuple[str, ...]:
    """Six small steps with a checkpoint after each, as arguments of `train`."""
    path = tmp_path / "small.yaml"
    values = {**CONFIG, "steps": 6, "batch_size": 4, "checkpoint": {"every": 1}, "evaluation": {"every": 0}}
    path.write_text(yaml.safe_dump(values))
    return str(path), f"out={tmp_path / 'run'}", "distributed.timeout_seconds=30"


def test_a_rank_that_does_not_come_is_named(outcome: Callable[..., None]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    there = [
        start(
            *("-m", "faceprint", "dist-check", "--timeout", "8"),
            RANK=rank,
            WORLD_SIZE="3",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
        )
        for rank in "02"
    ]
    outcomes = [finished(process) for process in there]
    assert [code for code, *_ in outcomes] == [2, 2]
    assert "of 3 processes 1 did not come" in outcomes[0][2]
    assert "within 8 s: rank 1;" in outcomes[0][2]
    outcome(
        "dist-check, one of 3 processes does not come",
        status=[code for code, *_ in outcomes],
        message=re.findall(r"of 3 processes[^;]*", " ".join(outcomes[0][2].replace(port, "PORT").split()))[0],
    )


def test_differences_name_rank_and_machine() -> None:
    same = Facts("1", "2", "a:1", "c", "d")
    assert not differences([("one", same), ("two", same)])
    assert differences([("one", same), ("one", same), ("two", Facts("1", "2", "a:1", "c", "other"))]) == [
        "data: rank 2 on two has other, rank 0 on one has d"
    ]


def test_two_processes_check_each_other(recipe: tuple[str, ...]) -> None:
    code, output, messages = finished(start("-m", "faceprint", "dist-check", *recipe, "--processes=2", "--json", "-"))
    assert code == 0, messages
    result = json.loads(output)
    assert (result["processes"], result["differences"], len(result["machines"])) == (2, [], 1)
    assert all(rate > 1e6 for rate in result["exchange"]["bytes_per_second"].values())
    step = result["step"]
    assert step["step_seconds"] == pytest.approx(step["compute_seconds"] + step["exchange_seconds"])
    assert step["samples_per_second"] == pytest.approx(8 / step["step_seconds"])


@pytest.mark.parametrize(("fault", "told"), [("raise", "broken on purpose"), ("kill", "Signal 9 (SIGKILL)")])
def test_a_rank_that_fails_is_named_and_ends_the_others(
    recipe: tuple[str, ...], fault: str, told: str, tmp_path: Path, outcome: Callable[..., None]
) -> None:
    failed_at = tmp_path / "failed at"
    arguments = (*OURS, str(HERE / "faulty_rank.py"), "train", *recipe)
    code, _, messages = finished(start(*arguments, FAULT=fault, FAILED_AT=str(failed_at)))
    seconds = time.monotonic() - float(failed_at.read_text())
    assert code == 1
    assert seconds < 60  # 30 s for who waits in a collective
    assert told in messages
    assert "rank      : 1 (local_rank: 1)" in messages
    outcome(
        f"rank 1 of 2 fails in its third step ({told})",
        status=code,
        seconds_until_all_ended=round(seconds, 1),
        named="rank 1" if "rank      : 1" in messages else None,
    )


def test_processes_that_are_started_again_continue(
    recipe: tuple[str, ...], tmp_path: Path, outcome: Callable[..., None]
) -> None:
    arguments = (*TORCHRUN, str(HERE / "faulty_rank.py"), "train", *recipe, "resume=auto")
    code, _, messages = finished(start(*arguments, FAULT="kill", FAILED_AT=str(tmp_path / "failed at")))
    assert code == 0, messages
    assert "resumed at step" in messages
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if line["kind"] == "train"]
    assert steps == [1, 2, 3, 4, 5, 6]
    outcome(
        "kill -9 of rank 1 under torchrun --max-restarts 1, resume=auto",
        status=code,
        said=re.findall(r"resumed at step \d+", " ".join(messages.split()))[0],
        steps_in_the_metrics=steps,
    )
