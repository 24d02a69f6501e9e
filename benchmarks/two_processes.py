"""What a second process is worth: two processes on a core each beside one on one core, in turn in one run.

    python benchmarks/two_processes.py [--network mbf] [--batch-size 32] [--steps 12] [--turns 3]

Each trains `--steps` steps of `--batch-size` images a process on generated faces, all in memory, by `faceprint train`
under torchrun, pinned to its core by `taskset`. Images a second are the medians of the run's own figures, without the
first two lines; the ratio is the median over turns, each within its turn, so that other programs weigh on both sides.
Prints JSON. Exit status 1: the ratio is under 1.6, where a second core of its own is there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

WANTED = 1.6


def recipe(network: str, batch_size: int, steps: int) -> str:
    return yaml.safe_dump(
        {
            "network": {"name": network},
            "margin": {"name": "cosface"},
            "data": {"source": "synthetic", "identities": 32, "images_per_identity": 8},
            "loader": {"workers": 0, "cache": "decoded"},
            "batch_size": batch_size,
            "steps": steps,
            "checkpoint": {"every": 0},
            "evaluation": {"every": 0},
            "log": {"every": 1},
            "device": "cpu",
        }
    )


def rate(folder: Path, name: str, cores: list[int]) -> float:
    """Images a second of one process a core."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={len(cores)}"]
    train = ["-m", "faceprint", "train", str(folder / "recipe.yaml"), f"out={folder / name}"]
    pinned = ["taskset", "--cpu-list", ",".join(map(str, cores))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*pinned, *torchrun, *train], env=environment, check=True, capture_output=True)
    lines = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    return statistics.median([line["samples_per_second"] for line in lines if line["kind"] == "train"][2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="mbf")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        sys.exit("two cores are needed")
    before = os.getloadavg()[0]
    turns: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recipe.yaml").write_text(recipe(options.network, options.batch_size, options.steps))
        for turn in range(options.turns):
            one = rate(folder, f"one {turn}", cores[:1])
            turns.append((one, rate(folder, f"two {turn}", cores)))
    ratio = statistics.median(two / one for one, two in turns)
    result = {
        "benchmark": "two_processes",
        **vars(options),
        "load_before": before,
        "images_per_second": {"one": [one for one, _ in turns], "two": [two for _, two in turns]},
        "ratio": round(ratio, 3),
        "wanted": WANTED,
    }
    print(json.dumps(result, indent=2))
    sys.exit(ratio < WANTED)


if __name__ == "__main__":
    main()
