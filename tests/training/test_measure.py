"""What metrics.jsonl says of the classifier: its time and its classes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from faceprint.config import Config
from faceprint.training.measure import HeadTimer, Stopwatch


def test_the_head_timer_adds_up() -> None:
    timer, began = HeadTimer(torch.device("cpu")), time.perf_counter()
    for _ in range(3):
        time.sleep(0.01)
        with timer.running():
            time.sleep(0.02)
    total = time.perf_counter() - began
    assert 0.06 <= timer.take() < total - 0.03 + 0.001  # a machine that is busy sleeps longer
    assert timer.take() == 0
    assert HeadTimer(torch.device("meta")).take() is None


def test_figures_of_an_interval() -> None:
    watch = Stopwatch(start=time.perf_counter() - 2.0, paused=1.0, images=50, steps=5, waited=0.25)
    figures = watch.take(0.5)
    assert figures["samples_per_second"] == pytest.approx(50, rel=0.01)
    assert figures["data_wait_fraction"] == pytest.approx(0.25, rel=0.01)
    assert figures["head_milliseconds"] == 100
    assert figures["head_fraction"] == pytest.approx(0.5, rel=0.01)
    assert "head_fraction" not in watch.take()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_head_timer_on_cuda() -> None:
    timer = HeadTimer(torch.device("cuda"))
    with timer.running():
        torch.cuda._sleep(100_000_000)  # pyright: ignore
    seconds = timer.take()
    assert seconds is not None
    assert 0.01 < seconds < 1


def test_classes_of_a_step_are_counted(tiny: Callable[..., Config], trained: Callable[[Config], Any]) -> None:
    _, _, records = trained(tiny("classifier.sample_rate=0.5", "data.identities=40", "dry_run=true"))
    for record in records:
        assert record["active_classes"] == 20
        assert 1 <= record["positive_classes"] <= 8
        assert record["negative_classes"] == pytest.approx(20 - record["positive_classes"])
        assert 0 < record["head_fraction"] < 1
        assert record["head_milliseconds"] > 0
        assert record["lowest_target_cosine"] <= record["target_cosine"]
