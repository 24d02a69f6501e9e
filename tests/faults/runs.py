"""Trainings in processes of their own, to be killed, starved and lied to."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file

RECIPE: dict[str, Any] = {
    "network": {"name": "mbf", "embedding_dim": 16, "image_size": [32, 32], "options": {"scale": 1, "output": "E"}},
    "margin": {"name": "adaface", "options": {"scale": 16.0}},
    "data": {"source": "synthetic", "identities": 12, "images_per_identity": 6},
    "loader": {"workers": 1},
    "augment": {"flip": 0.5, "shift": 0.1},
    "classifier": {"sample_rate": 0.5},
    "batch_size": 4,
    "steps": 60,
    "optimizer": {"lr": 0.01},
    "evaluation": {
        "every": 7,
        "protocols": [{"protocol": "synthetic", "num_identities": 8, "images_per_identity": 3, "num_pairs": 20}],
    },
    "checkpoint": {"every": 5, "keep": 2},
    "log": {"every": 3},
    "device": "cpu",
}
ROOT = str(Path(__file__).parent.parent.parent)
CLOCK = {
    "samples_per_second",
    "data_wait_fraction",
    "images_per_second",
    "head_milliseconds",
    "head_fraction",
    "seconds",
}


def write_recipe(folder: Path, **changes: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}))
    return path


def start(
    recipe: Path, out: Path, *assignments: str, processes: int = 1, script: Path | None = None, **environment: str
) -> subprocess.Popen[str]:
    """A training as a user would start it, or by a script in the place of `-m faceprint`; it leads a process group."""
    program = [str(script)] if script else ["-m", "faceprint"]
    if processes > 1:  # what `--processes` does
        launcher = "from faceprint.cli.launch import main; main()"
        program = ["-c", launcher, "--standalone", f"--nproc-per-node={processes}", *program]
    return subprocess.Popen(
        [sys.executable, *program, "train", str(recipe), f"out={out}", *assignments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT, **environment},
    )


def finish(training: subprocess.Popen[str], timeout: float = 240) -> tuple[int, str]:
    """Exit status and what was said."""
    try:
        _, said = training.communicate(timeout=timeout)
    finally:
        end(training)
    return training.returncode, said


def end(training: subprocess.Popen[str], everybody: Iterable[int] = ()) -> None:
    """Nothing of it is left, nor of the processes `everybody` that were seen of it."""
    for number in {*family(training), *everybody}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def family(training: subprocess.Popen[str]) -> dict[int, int]:
    """The processes of a training and their parents: launcher, ranks and data workers."""
    parents = dict(filter(None, (_parent(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit())))
    found = {training.pid: os.getpid()} if training.pid in parents else {}
    while more := {one: parent for one, parent in parents.items() if parent in found and one not in found}:
        found.update(more)
    return found


def _parent(entry: Path) -> tuple[int, int] | None:
    """(process, its parent) of a folder of /proc; None where it has ended."""
    try:
        state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else (int(entry.name), int(parent))


def is_running(number: int) -> bool:
    return _parent(Path(f"/proc/{number}")) is not None


def roles(training: subprocess.Popen[str], processes: int) -> dict[str, list[int]]:
    """The processes of a training by what they do; those that start, end or do something else are left out."""
    found: dict[str, list[int]] = {}
    parents = family(training)
    for number, parent in parents.items():
        if number == training.pid:
            role = "leader" if processes == 1 else "launcher"
        elif processes > 1 and parent == training.pid:
            role = {b"0": "leader", None: ""}.get(_environment(number, b"RANK"), "follower")
        else:
            role = "data worker" if _command(number) == _command(parent) else ""
        if role:
            found.setdefault(role, []).append(number)
    return found


def _command(number: int) -> bytes:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return b"ended"


def _environment(number: int, name: bytes) -> bytes | None:
    try:
        entries = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return next((entry.partition(b"=")[2] for entry in entries if entry.startswith(name + b"=")), None)


def steps_done(out: Path) -> int:
    """The last step that the metrics know."""
    try:
        lines = (out / "metrics.jsonl").read_text().splitlines()
    except OSError:
        return 0
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def wait_for(condition: Any, training: subprocess.Popen[str], timeout: float = 120) -> None:
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "waited too long"
        assert training.poll() is None, f"the training ended by itself: {training.communicate()[1]}"
        time.sleep(0.01)


def metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what the clock decides."""
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in CLOCK} for record in records]


def doubled_and_lost(out: Path, whole: Path) -> tuple[int, int]:
    """Lines of metrics.jsonl and training.log that are there more often, or less, than in the run `whole`."""
    found, expected = _lines(out), _lines(whole)
    return (found - expected).total(), (expected - found).total()


def _lines(out: Path) -> Counter[str]:
    steps = re.findall(r"Global Step: \d+|\]\[\d+\]Accuracy-\w+", (out / "training.log").read_text())
    return Counter([*steps, *(json.dumps(record) for record in metrics(out))])


def weights(out: Path) -> dict[str, str]:
    """SHA-256 of every tensor of the last checkpoint's centres and of the model.

    Not of the files: safetensors writes its metadata in any order.
    """
    last = sorted((out / "checkpoints").glob("step_?????????"))[-1]
    found: dict[str, str] = {}
    for file in [*sorted(last.glob("centres-*.safetensors")), out / "model" / "model.safetensors"]:
        for name, tensor in load_file(file).items():
            found[f"{file.name} {name}"] = hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
    return found
