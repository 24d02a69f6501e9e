from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from faceprint.config import Config
from faceprint.training.profile import PARTS, add_up

Tiny = Callable[..., Config]
Trained = Callable[[Config], Any]


def test_a_trace_and_the_time_by_part(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    _, outcome, records = trained(tiny("profile=true", "steps=14", "accumulate=2"))
    rows = {row.part: row for row in outcome.profile}
    assert list(rows) == [*PARTS, "rest", "communication", "step"]
    assert all(rows[name].milliseconds > 0 for name in (*PARTS, "step"))
    total = sum(row.milliseconds for name, row in rows.items() if name not in ("communication", "step"))
    assert total == pytest.approx(rows["step"].milliseconds, abs=0.01)
    assert rows["communication"].milliseconds == 0
    trace = json.loads(gzip.decompress((tmp_path / "run" / "profile" / "rank-00000.json.gz").read_bytes()))
    marks = [event for event in trace["traceEvents"] if event.get("name") == "faceprint.forward" and event["ph"] == "X"]
    assert len(marks) == 5 * 2
    assert sum(mark["dur"] for mark in marks) / 5e3 == pytest.approx(rows["forward"].milliseconds, rel=0.05)
    written = json.loads((tmp_path / "run" / "profile" / "parts.json").read_text())["parts"]
    assert [row["part"] for row in written] == list(rows)
    assert len(records) == 7


def test_a_short_training_gives_the_steps_there_are(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    _, outcome, _ = trained(tiny("profile=true", "steps=3", "dry_run=true"))
    assert [row.part for row in outcome.profile][-1] == "step"
    assert not (tmp_path / "run").exists()


def test_without_it_nothing_is_traced(tiny: Tiny, trained: Trained, tmp_path: Path) -> None:
    _, outcome, _ = trained(tiny("steps=2"))
    assert outcome.profile == []
    assert not (tmp_path / "run" / "profile").exists()


def event(name: str, start: float, end: float, kernels: list[tuple[str, float]] | None = None) -> Any:
    time_range = SimpleNamespace(start=start, end=end, elapsed_us=lambda: end - start)
    launched = [SimpleNamespace(name=kernel, duration=duration) for kernel, duration in kernels or []]
    return SimpleNamespace(name=name, time_range=time_range, kernels=launched, device_type=SimpleNamespace(name="CPU"))


def test_kernels_count_for_the_part_in_which_they_were_launched() -> None:
    """Two steps of 1 ms by hand: what autograd's own thread launches during the backward mark belongs to it."""
    one = [
        event("ProfilerStep*", 0, 1000),
        event("faceprint.data", 0, 100),
        event("faceprint.forward", 100, 300),
        event("cudaLaunchKernel", 150, 151, [("conv", 400.0)]),
        event("faceprint.backward", 300, 500),
        event("cudaLaunchKernel", 400, 401, [("conv_backward", 800.0), ("ncclDevKernel_AllReduce", 50.0)]),
        event("faceprint.optimizer", 500, 600),
        event("cudaLaunchKernel", 900, 901, [("copy", 10.0)]),
    ]
    two = [event(each.name, each.time_range.start + 1000, each.time_range.end + 1000) for each in one]
    rows = {row.part: row for row in add_up([*one, *two], "cuda")}
    assert {name: row.milliseconds for name, row in rows.items()} == {
        "data": 0.1,
        "forward": 0.2,
        "head": 0.0,
        "backward": 0.2,
        "optimizer": 0.1,
        "rest": 0.4,
        "communication": 0.0,
        "step": 1.0,
    }
    assert {name: row.device_milliseconds for name, row in rows.items() if row.device_milliseconds} == {
        "forward": 0.2,
        "backward": 0.425,
        "rest": 0.005,
        "communication": 0.025,
        "step": 0.63,
    }
    assert rows["backward"].share == 0.2
