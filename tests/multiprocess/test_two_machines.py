"""Two machines, played by two network namespaces with one cable between them, which is cut in the middle of a run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_training_worlds import CONFIG, SMALL, Job, largest_difference, losses, trained

MACHINES = {"10.231.7.1": "fp_one", "10.231.7.2": "fp_two"}
STEPS = 12
pytestmark = pytest.mark.slow


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def machines() -> Iterator[None]:
    try:
        for name in MACHINES.values():
            ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces are not permitted here: {error}")
    one, two = MACHINES.values()
    try:
        ip("link", "add", "cable", "netns", one, "type", "veth", "peer", "name", "cable", "netns", two)
        for address, name in MACHINES.items():
            ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "cable", "up")
        yield
    finally:
        for name in MACHINES.values():
            ip("netns", "del", name)


def start(folder: Path, *changes: str) -> list[subprocess.Popen[str]]:
    """Two processes on each machine train `CONFIG` into `folder`/run."""
    recipe = folder / "small.yaml"
    recipe.write_text(yaml.safe_dump({**CONFIG, "steps": STEPS, "evaluation": {"every": 0}}))
    root = str(Path(__file__).parent.parent.parent)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root, "GLOO_SOCKET_IFNAME": "cable"}
    master = next(iter(MACHINES))
    torchrun = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=2", f"--master-addr={master}"]
    train = ["-m", "faceprint", "train", str(recipe), f"out={folder / 'run'}", "batch_size=3", *changes]
    return [
        subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, *torchrun, f"--node-rank={number}", *train],
            env=env,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for number, name in enumerate(MACHINES.values())
    ]


def records(folder: Path) -> list[dict[str, Any]]:
    path = folder / "run" / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def cut_in_the_middle(folder: Path) -> None:
    deadline = time.monotonic() + 120
    while len(records(folder)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(records(folder)) < STEPS
    ip("-n", MACHINES["10.231.7.2"], "link", "set", "cable", "down")


def ended(processes: list[subprocess.Popen[str]], seconds: float) -> list[tuple[int, str]]:
    try:
        messages = [process.communicate(timeout=seconds)[1] for process in processes]
    finally:
        for process in processes:
            process.terminate()
    return [(process.returncode, text) for process, text in zip(processes, messages, strict=True)]


def test_a_cable_that_is_put_back_changes_nothing(machines: None, tmp_path: Path, outcome: Callable[..., None]) -> None:
    options = (f"optimizer.lr={SMALL}", "network.options.norm=syncbn")
    processes = start(tmp_path, *options, "distributed.timeout_seconds=60")
    cut_in_the_middle(tmp_path)
    cut = time.monotonic()
    time.sleep(3)
    ip("-n", MACHINES["10.231.7.2"], "link", "set", "cable", "up")
    without = time.monotonic() - cut
    ends = ended(processes, 150)
    for code, messages in ends:
        assert code == 0, messages
    (alone,) = trained(1, Job(f"{tmp_path}/alone", (*options, f"steps={STEPS}")))
    assert losses(records(tmp_path)) == pytest.approx(losses(alone), rel=1e-2)
    outcome(
        "two machines of 2 processes each, the cable is cut and put back",
        seconds_without=round(without, 1),
        status=[code for code, _ in ends],
        largest_difference_of_losses_from_one_process=f"{largest_difference(records(tmp_path), alone):.1e}",
    )


def test_a_cable_that_stays_cut_ends_both_with_a_message(
    machines: None, tmp_path: Path, outcome: Callable[..., None]
) -> None:
    processes = start(tmp_path, "distributed.timeout_seconds=10")
    cut_in_the_middle(tmp_path)
    began = time.monotonic()
    ends = ended(processes, 120)
    seconds = time.monotonic() - began
    for code, messages in ends:
        assert code == 1
        assert "imed out" in messages or "losed by peer" in messages, messages
    assert seconds < 90
    outcome(
        "two machines, the cable stays cut, distributed.timeout_seconds=10",
        seconds_until_both_ended=round(seconds, 1),
        status=[code for code, _ in ends],
        said=sorted({word for _, text in ends for word in re.findall(r"[Tt]imed out|[Cc]losed by peer", text)}),
    )
