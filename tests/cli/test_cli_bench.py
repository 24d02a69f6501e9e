"""`faceprint bench train` against a stored result."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from faceprint.cli import main
from faceprint.errors import UserError
from faceprint.training.benchmark import compare, read_baseline

FAST: dict[str, Any] = {"precision": "bf16", "compile": True, "channels_last": True, "samples_per_second": 100.0}
RESULT: dict[str, Any] = {
    "benchmark": "train",
    "network": "mbf",
    "batch_size": 64,
    "threads": 2,
    "device": "cpu",
    "fast": FAST,
}


def stored(folder: Path, speed: float, **changes: Any) -> Path:
    path = folder / "baseline.json"
    path.write_text(json.dumps({**RESULT, "fast": {**FAST, "samples_per_second": speed}, **changes}))
    return path


@pytest.mark.parametrize(
    ("before", "tolerance", "ratio", "slower"),
    [(80.0, 0.1, 1.25, False), (110.0, 0.1, 0.9091, False), (112.0, 0.1, 0.8929, True), (112.0, 0.2, 0.8929, False)],
)
def test_ratio_and_verdict(tmp_path: Path, before: float, tolerance: float, ratio: float, slower: bool) -> None:
    compared = compare(RESULT, read_baseline(stored(tmp_path, before)), tolerance)
    assert (compared.ratio, compared.slower) == (ratio, slower)


def test_only_like_is_compared_with_like(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="network 'r50' there, 'mbf' here; threads 4 there, 2 here"):
        compare(RESULT, read_baseline(stored(tmp_path, 100, network="r50", threads=4)), 0.1)
    with pytest.raises(UserError, match="precision 'fp32' there, 'bf16' here"):
        compare(RESULT, read_baseline(stored(tmp_path, 100, fast={**FAST, "precision": "fp32"})), 0.1)
    for text in ("", "[]", "{}", '{"fast": {"samples_per_second": "x"}}', '{"fast": {"samples_per_second": 0}}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(UserError, match=r"bad\.json"):
            read_baseline(tmp_path / "bad.json")
    with pytest.raises(UserError, match="No such file"):
        read_baseline(tmp_path / "none.json")


def test_a_slower_program_exits_with_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def bench(*options: str) -> int:
        size = ("--batch-size", "2", "--steps", "1", "--no-compile", "--precision", "fp32", "--device", "cpu")
        monkeypatch.setattr(sys, "argv", ["faceprint", "bench", "train", "mbf", *size, *options])
        with pytest.raises(SystemExit) as stopped:
            main()
        return int(stopped.value.code or 0)

    path = tmp_path / "before.json"
    assert bench("--save", str(path)) == 0
    baseline = json.loads(path.read_text())
    baseline["fast"]["samples_per_second"] *= 1000
    path.write_text(json.dumps(baseline))
    capsys.readouterr()
    assert bench("--baseline", str(path), "--json", "-") == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["baseline"]["slower"] is True
    assert "slower" in printed.err
    baseline["fast"]["samples_per_second"] /= 1_000_000
    path.write_text(json.dumps(baseline))
    assert bench("--baseline", str(path)) == 0
