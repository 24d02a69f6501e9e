"""Sweeps: what is searched, that each trial is that training, and that a killed sweep goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from faceprint.cli import main
from faceprint.errors import UserError
from faceprint.recipe import load_config
from faceprint.training import sweep as module
from faceprint.training.loop import TrainingFailedError
from faceprint.training.sweep import Choices, Range, Trial, best_trial, parse_values, plan_sweep, run_sweep

pytest.importorskip("optuna")


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    protocol = {"protocol": "synthetic", "num_identities": 6, "images_per_identity": 2, "num_pairs": 8, "size": "32x32"}
    keys = {
        "network": {"name": "mbf", "embedding_dim": 16, "image_size": [32, 32], "options": {"scale": 1}},
        "data": {"source": "synthetic", "identities": 4, "images_per_identity": 2},
        "loader": {"workers": 0},
        "batch_size": 4,
        "steps": 2,
        "device": "cpu",
        "evaluation": {"every": 1, "protocols": [protocol]},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(keys))
    return "tiny.yaml"


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], list[float]]], None]:
    """Puts a function config -> accuracies of its evaluations in the place of training."""

    def replace(accuracies: Callable[[Any], list[float]]) -> None:
        class Run:
            def __init__(self, config: Any) -> None:
                self.config, self.best = config, 0.0

        def train(run: Any, report: Callable[[dict[str, Any]], None]) -> Any:
            for step, accuracy in enumerate(accuracies(run.config), start=1):
                run.best = max(run.best, accuracy)
                report({"kind": "evaluation", "protocol": "synthetic", "step": step, "accuracy": accuracy})
            return type("Outcome", (), {"stopped": False})

        monkeypatch.setattr(module, "open_run", Run)
        monkeypatch.setattr(module, "train", train)

    return replace


def test_what_a_value_means() -> None:
    assert parse_values("k", "0.01..1") == Range(0.01, 1.0, whole=False)
    assert parse_values("k", "1e-4..1e-2") == Range(1e-4, 1e-2, whole=False)
    assert parse_values("k", "8..64") == Range(8, 64, whole=True)
    assert parse_values("k", "-2..2.") == Range(-2, 2, whole=False)
    assert parse_values("k", "a, b,c") == Choices(("a", "b", "c"))
    assert parse_values("k", "[1,2],[3,4]") == Choices(("[1,2]", "[3,4]"))
    for single in ("0.1", "a", "[1,2]", "{a: 1, b: 2}", "runs/../x", "../x"):
        assert parse_values("k", single) is None, single
    for wrong in ("3..1", "1..1", "a,,b", "a,a"):
        with pytest.raises(UserError, match="k="):
            parse_values("k", wrong)


def test_mistakes_are_said_before_anything_is_trained(recipe: str, tmp_path: Path) -> None:
    for keys, words in (
        (["optimizer.lr=0.1"], "nothing to search"),
        (["optimizer.lt=0.1,0.2"], "unknown key 'optimizer.lt'"),
        (["optimizer.name=sgd,adamx"], "adamx"),
        (["batch_size=0..8"], "batch_size"),
        (["optimizer.lr=0.1,0.2", "evaluation.protocols=[]"], "needs evaluation.protocols"),
    ):
        with pytest.raises(UserError, match=words):
            plan_sweep(recipe, keys)
    assert list(tmp_path.iterdir()) == [tmp_path / recipe]


def test_a_real_sweep_trains_every_combination_and_prints_the_best(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "faceprint",
        "sweep",
        recipe,
        "optimizer.lr=0.001,0.01",
        "seed=3",
        "out=s",
        "--no-prune",
        "--json",
        "s.json",
    ]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    result = json.loads((tmp_path / "s.json").read_text())
    assert sorted(trial["keys"]["optimizer.lr"] for trial in result["trials"]) == ["0.001", "0.01"]
    for trial in result["trials"]:
        folder = tmp_path / "s" / f"trial_{trial['number']:03d}"
        config = load_config(str(folder / "config.yaml"))
        assert (repr(config.optimizer.lr), config.seed) == (trial["keys"]["optimizer.lr"], 3)
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert trial["accuracy"] == max(record["accuracy"] for record in records if record["kind"] == "evaluation")
    best = max(result["trials"], key=lambda trial: (trial["accuracy"], -trial["number"]))
    assert result["best"] == f"faceprint train tiny.yaml seed=3 optimizer.lr={best['keys']['optimizer.lr']}"
    assert result["best"] in capsys.readouterr().out


def test_a_range_is_searched_towards_the_best(recipe: str, scores: Any) -> None:
    scores(lambda config: [1.0 - abs(config.optimizer.lr - 0.3)])
    planned = plan_sweep(recipe, ["optimizer.lr=0.001..1", "out=s"])
    done = run_sweep(planned, 40)
    rates = [float(trial.keys["optimizer.lr"]) for trial in done]
    assert len(done) == 40
    assert all(0.001 <= rate <= 1 for rate in rates)
    assert sum(rate < 0.03 for rate in rates[:10]) >= 2  # by its logarithm, half of the first random ones are
    best = best_trial(done)
    assert best is not None
    assert abs(float(best.keys["optimizer.lr"]) - 0.3) < 0.05


def test_a_killed_sweep_goes_on_and_repeats_what_was_interrupted(recipe: str, scores: Any) -> None:
    seen: list[int] = []

    def accuracies(config: Any) -> list[float]:
        seen.append(config.batch_size)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return [config.batch_size / 100]

    scores(accuracies)
    planned = plan_sweep(recipe, ["batch_size=2,4,6,8", "out=s"])
    with pytest.raises(KeyboardInterrupt):
        run_sweep(planned, 4)
    done = run_sweep(planned, 4)
    assert len(seen) == 5
    assert seen[1] == seen[2]
    assert sorted(int(trial.keys["batch_size"]) for trial in done if trial.state == "complete") == [2, 4, 6, 8]
    assert [trial.state for trial in done].count("failed") == 1
    assert run_sweep(planned, 4) == done
    assert len(seen) == 5
    with pytest.raises(UserError, match="holds another sweep"):
        run_sweep(plan_sweep(recipe, ["batch_size=2,4", "out=s"]), 2)


def test_hopeless_trials_are_given_up_and_diverging_ones_do_not_end_the_sweep(recipe: str, scores: Any) -> None:
    def accuracies(config: Any) -> list[float]:
        if config.seed == 7:
            raise TrainingFailedError("the loss was not finite")
        if config.seed == 6:
            raise UserError("an embedding is not finite")
        return [0.5, 0.4, 0.3] if config.seed > 7 else [0.6, 0.7, 0.8]

    scores(accuracies)
    done = run_sweep(plan_sweep(recipe, ["seed=1,2,3,4,5,6,7,8,9,10", "out=s"]), 10)
    assert len(done) == 10
    states = {int(trial.keys["seed"]): trial for trial in done}
    assert (states[7].state, states[7].reason) == ("pruned", "the loss was not finite")
    assert (states[6].state, states[6].reason) == ("pruned", "an embedding is not finite")
    assert all(states[seed].state == "complete" for seed in range(1, 6))
    late = [trial for trial in done[6:] if int(trial.keys["seed"]) > 7]
    assert all(trial.reason == "below the median at step 1" for trial in late)


def test_the_best_is_the_earliest_of_equals() -> None:
    trials = [Trial(0, "complete", 0.8, {}, ""), Trial(1, "complete", 0.9, {}, ""), Trial(2, "complete", 0.9, {}, "")]
    trials += [Trial(3, "pruned", 0.95, {}, ""), Trial(4, "failed", None, {}, "")]
    assert best_trial(trials) == trials[1]
    assert best_trial(trials[3:]) is None
