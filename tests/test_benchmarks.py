"""The benchmarks run, and their figures agree with each other. No speed is asserted: that is for quiet machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from faceprint.data.benchmark import benchmark_loading
from faceprint.data.folder import image_folder
from faceprint.data.synthetic import SyntheticFaces
from faceprint.data.write_set import write_set
from faceprint.errors import UserError
from faceprint.inference.benchmark import benchmark_embedding
from faceprint.memory import keep_freed_memory
from faceprint.training.benchmark import benchmark_training


def test_training_benchmark() -> None:
    fast = {"precision": "fp32", "compile": False, "channels_last": True}
    result = benchmark_training("mbf", batch_size=4, steps=1, fast=fast, device="cpu")
    assert len(result["plain"]["losses"]) == len(result["fast"]["losses"]) == 6
    assert result["largest_relative_loss_difference"] < 0.05
    ratio = result["fast"]["samples_per_second"] / result["plain"]["samples_per_second"]
    assert result["speedup"] == pytest.approx(ratio, rel=0.01)


def test_embedding_benchmark() -> None:
    result = benchmark_embedding("mbf", batch_size=4, batches=2, device="cpu")
    assert result["largest_embedding_difference"] < 1e-4
    ratio = result["fast"]["images_per_second"] / result["plain"]["images_per_second"]
    assert result["speedup"] == pytest.approx(ratio, rel=0.01)


def test_loading_benchmark(tmp_path: Path) -> None:
    write_set(SyntheticFaces(3, 4, size=(32, 32)), tmp_path / "crops", kind="folder")
    source = image_folder(tmp_path / "crops")
    result = benchmark_loading(source, workers=2, batch_size=4, images=40)
    rates = result["images_per_second"]
    assert set(rates) == {"read", "decode", "loader"}
    assert result["loader_share_of_decoder"] == pytest.approx(rates["loader"] / rates["decode"], abs=6e-4)
    assert result["limit"].startswith(("decoding", "reading", "neither"))
    with pytest.raises(UserError, match="at least 1"):
        benchmark_loading(source, workers=0, batch_size=4, images=40)
    for path in (tmp_path / "crops").rglob("*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(UserError, match="nothing to measure"):
        benchmark_loading(source, workers=1, batch_size=4, images=40)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(UserError, match="steps >= 1"):
        benchmark_training("mbf", batch_size=4, steps=0, fast={})
    with pytest.raises(UserError, match="batch_size >= 1"):
        benchmark_embedding("mbf", batch_size=0, batches=1)


def test_memory_can_be_kept_and_given_back() -> None:
    assert keep_freed_memory() == keep_freed_memory(False)


def test_ijb_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    from evaluation import ijb_of_published_size

    result = ijb_of_published_size(images=2000, templates=200, pairs=20_000)
    assert result["same_result"] is True
    assert result["speedup"] == pytest.approx(result["plain_seconds"] / result["seconds"], abs=0.06)
