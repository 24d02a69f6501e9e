"""The example files for schedulers: they parse, name commands and keys that exist, and the script for SLURM works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from test_training_worlds import CONFIG
from typer.testing import CliRunner

from faceprint.cli import app
from faceprint.recipe import load_config

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "docs" / "examples"
SRUN = """#!{python}
# Starts two tasks; their time is up, once, when the run has two lines of figures.
import os, pathlib, signal, subprocess, sys, time

tasks = [subprocess.Popen(sys.argv[1:], env=dict(os.environ, SLURM_PROCID=n, SLURM_LOCALID=n)) for n in "01"]
metrics, asked = pathlib.Path("runs/7/metrics.jsonl"), pathlib.Path("asked")
while any(task.poll() is None for task in tasks):
    time.sleep(0.05)
    if not asked.exists() and metrics.exists() and metrics.read_text().count("\\n") >= 2:
        asked.touch()
        for task in tasks:
            task.send_signal(signal.SIGUSR1)
sys.exit(max(task.returncode for task in tasks))
"""
SCONTROL = '#!/bin/sh\nif [ "$1" = requeue ]; then echo "$2" >> requeued; else echo 127.0.0.1; fi\n'
PYTHON = '#!/bin/sh\nexec {python} "$@"\n'


def assert_known(words: list[str], command: str) -> None:
    """Every option of these words is in the command's help, and every key=value is one of the configuration's."""
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0] in shown
    keys = [word for word in words if "=" in word and not word.startswith("--")]
    recipe = next((word for word in words if "/" in word and "=" not in word), "arcface_torch/r100")
    load_config(recipe, ["data.path=faces", *keys])


def test_the_job_for_kubernetes_says_what_exists() -> None:
    job = yaml.safe_load((EXAMPLES / "pytorchjob.yaml").read_text())
    assert (job["kind"], job["apiVersion"]) == ("PyTorchJob", "kubeflow.org/v1")
    for replica in ("Master", "Worker"):
        container = job["spec"]["pytorchReplicaSpecs"][replica]["template"]["spec"]["containers"][0]
        words = [*container["command"], *container["args"]]
        assert_known(words[words.index("train") + 1 :], "train")
        assert str(container["resources"]["limits"]["nvidia.com/gpu"]) == job["spec"]["nprocPerNode"]


def test_the_script_for_slurm_says_what_exists() -> None:
    subprocess.run(["bash", "-n", EXAMPLES / "slurm.sbatch"], check=True)
    text = (EXAMPLES / "slurm.sbatch").read_text()
    for command in ("train", "dist-check"):
        (arguments,) = re.findall(rf'\$task {command} \$\* ([^"]*)"', text)
        assert_known([word for word in arguments.split() if "$" not in word], command)


@pytest.mark.slow
def test_the_script_for_slurm_is_queued_again_and_continues(tmp_path: Path, outcome: Callable[..., None]) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("python", PYTHON)):
        (programs / name).write_text(text.replace("{python}", sys.executable))
        (programs / name).chmod(0o755)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**CONFIG, "steps": 30, "evaluation": {"every": 0}}))
    env = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "here",
        "SLURM_NTASKS": "2",
    }
    command = ["bash", str(EXAMPLES / "slurm.sbatch"), "small.yaml", "batch_size=4"]
    codes = [subprocess.run(command, cwd=tmp_path, env=env, check=False, timeout=200).returncode for _ in range(2)]
    assert codes == [75, 0]
    assert (tmp_path / "requeued").read_text() == "7\n"
    lines = [json.loads(line) for line in (tmp_path / "runs" / "7" / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if line["kind"] == "train"]
    assert steps == [*range(1, 31)]
    outcome(
        "docs/examples/slurm.sbatch, SIGUSR1 to each of 2 tasks, queued again",
        status=codes,
        lines_of_30_steps=len(steps),
    )
