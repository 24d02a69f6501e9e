"""A search over keys of a recipe by Optuna: each trial is a training with a run folder of its own."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceprint.assignments import split_assignment
from faceprint.config import Config
from faceprint.distributed import world_size
from faceprint.errors import UserError
from faceprint.recipe import load_config
from faceprint.training.loop import TrainingFailedError, train
from faceprint.training.opening import open_run

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"({NUMBER})\.\.({NUMBER})")
LOGARITHMIC = 10
"""A range of positive numbers whose ends are so many times apart is searched by its logarithm."""


class SweepStoppedError(RuntimeError):
    """The sweep was asked to stop in the middle of a trial."""


@dataclass(frozen=True)
class Choices:
    """Some values of a key, as texts."""

    values: tuple[str, ...]

    def suggest(self, trial: Any, key: str) -> str:
        return str(trial.suggest_categorical(key, list(self.values)))

    def examples(self) -> tuple[str, ...]:
        return self.values


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    whole: bool

    def suggest(self, trial: Any, key: str) -> str:
        logarithmic = self.low > 0 and self.high / self.low >= LOGARITHMIC
        if self.whole:
            return str(trial.suggest_int(key, int(self.low), int(self.high), log=logarithmic))
        return repr(trial.suggest_float(key, self.low, self.high, log=logarithmic))

    def examples(self) -> tuple[str, ...]:
        return tuple(str(int(end)) if self.whole else repr(end) for end in (self.low, self.high))


Space = dict[str, Choices | Range]


@dataclass(frozen=True)
class Trial:
    """One training of a sweep. `accuracy` is the best of the first protocol; None where it did not come so far."""

    number: int
    state: str
    """complete, pruned (given up) or failed (interrupted, and repeated later)."""
    accuracy: float | None
    keys: dict[str, str]
    reason: str
    """Why it ended early; empty where it did not."""


@dataclass(frozen=True)
class Sweep:
    """What is searched. Made by `plan_sweep`."""

    recipe: str
    fixed: tuple[str, ...]
    """Further `key=value` of every trial."""
    space: Space
    folder: Path
    seed: int

    @property
    def combinations(self) -> int | None:
        """How many there are; None where a range is among the keys."""
        choices = [len(values.values) for values in self.space.values() if isinstance(values, Choices)]
        return math.prod(choices) if len(choices) == len(self.space) else None

    def trial_folder(self, number: int) -> Path:
        return self.folder / f"trial_{number:03d}"

    def config(self, keys: dict[str, str], folder: Path) -> Config:
        return load_config(self.recipe, [*self.assignments(keys), f"out={folder}"])

    def assignments(self, keys: dict[str, str]) -> list[str]:
        return [*self.fixed, *(f"{key}={value}" for key, value in keys.items())]


def plan_sweep(recipe: str, assignments: Sequence[str]) -> Sweep:
    """The search that `key=a,b,c`, `key=low..high` and, for all trials, `key=value` ask for; `out=DIR` is its folder.

    Every single value, and both ends of each range, are tried against the recipe before anything is trained. Raises
    `UserError` for one that does not fit, where nothing is searched, and for a recipe without evaluation.
    """
    space: Space = {}
    fixed: list[str] = []
    folder = Path("runs") / f"{Path(recipe).stem}_sweep"
    for assignment in assignments:
        key, text = split_assignment(assignment)
        values = parse_values(key, text)
        if key == "out":
            folder = Path(text)
        elif values is None:
            fixed.append(assignment)
        else:
            space[key] = values
    if not space:
        raise UserError("nothing to search: give a key several values (key=a,b,c) or a range (key=low..high)")
    configs = [load_config(recipe, [*fixed, f"{key}={value}"]) for key in space for value in space[key].examples()]
    if not configs[0].evaluation.protocols:
        raise UserError("a sweep compares accuracies: the recipe needs evaluation.protocols")
    return Sweep(recipe, tuple(fixed), space, folder, configs[0].seed)


def parse_values(key: str, text: str) -> Choices | Range | None:
    """`a,b,c` (commas inside of brackets do not count) or `low..high`; None for a single value."""
    ends = RANGE.fullmatch(text.strip())
    if ends:
        low, high = float(ends[1]), float(ends[2])
        if not low < high:
            raise UserError(f"{key}={text}: a range rises from its lower to its higher end")
        return Range(low, high, whole=all(re.fullmatch(r"[-+]?\d+", end) for end in ends.groups()))
    values = [part.strip() for part in re.split(r",(?![^\[{]*[\]}])", text)]
    if len(values) == 1:
        return None
    if "" in values or len(set(values)) < len(values):
        raise UserError(f"{key}={text}: values between commas must be there, and differ")
    return Choices(tuple(values))


def run_sweep(
    sweep: Sweep, trials: int, *, prune: bool = True, report: Callable[[Trial], None] | None = None
) -> list[Trial]:
    """Train until the sweep in `sweep.folder` has `trials` trials that ended, those of earlier calls included.

    Lists alone are gone through combination by combination, in random order; with ranges the next trial is chosen by
    what the ones before reached (tree-structured Parzen estimator). With `prune` a trial is given up at an evaluation
    where it is below the median of the others; one whose training fails is given up in any case. One that was
    interrupted is repeated under a new number. `report` gets each trial as it ends. Raises `UserError` where Optuna is
    missing, and for a folder with another sweep.
    """
    optuna = _optuna()
    if world_size() > 1:
        raise UserError("a sweep trains one trial after another in one process; start it without torchrun")
    study = _open_study(optuna, sweep, prune)
    _repeat_interrupted(optuna, study)
    ended = [trial for trial in study.trials if trial.state in _ended(optuna)]
    limit = trials if sweep.combinations is None else min(trials, sweep.combinations)
    if len(ended) < limit:
        study.optimize(
            lambda trial: _train(optuna, sweep, trial),
            n_trials=limit - len(ended),
            callbacks=[lambda _, trial: report(_row(sweep, trial))] if report else [],
        )
    return [_row(sweep, trial) for trial in study.trials if trial.state != optuna.trial.TrialState.WAITING]


def _optuna() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise UserError(f"a sweep needs Optuna: pip install 'faceprint[sweep]' ({error})") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _ended(optuna: Any) -> tuple[Any, ...]:
    return (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)


def _open_study(optuna: Any, sweep: Sweep, prune: bool) -> Any:
    """The study in `sweep.db` of the sweep's folder, new or continued."""
    sweep.folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{(sweep.folder / 'sweep.db').resolve()}",
        study_name="sweep",
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner(),
    )
    described = {"recipe": sweep.recipe, "fixed": list(sweep.fixed), "space": repr(sweep.space)}
    before = study.user_attrs.get("sweep", described)
    if before != described:
        raise UserError(f"{sweep.folder}: holds another sweep ({before}); choose another folder with out=DIR")
    study.set_user_attr("sweep", described)
    # Another seed for each part, which would else draw the same values again.
    study.sampler = _sampler(optuna, sweep, sweep.seed + len(study.trials))
    return study


def _sampler(optuna: Any, sweep: Sweep, seed: int) -> Any:
    if sweep.combinations is None:
        return optuna.samplers.TPESampler(seed=seed)
    return optuna.samplers.GridSampler({key: list(each.examples()) for key, each in sweep.space.items()}, seed=seed)


def _repeat_interrupted(optuna: Any, study: Any) -> None:
    """Queue the keys of trials that a killed sweep left in the middle."""
    states = optuna.trial.TrialState
    for trial in study.get_trials(states=(states.RUNNING,)):
        study.tell(trial.number, state=states.FAIL)
    repeated = {trial.user_attrs.get("repeats") for trial in study.trials}
    for trial in study.get_trials(states=(states.FAIL,)):
        if trial.number not in repeated:
            study.enqueue_trial(trial.params, user_attrs={"repeats": trial.number})


def _train(optuna: Any, sweep: Sweep, trial: Any) -> float:
    """The best accuracy of one trial. Raises Optuna's exception for one that is given up."""
    keys = {key: values.suggest(trial, key) for key, values in sweep.space.items()}
    run = open_run(sweep.config(keys, sweep.trial_folder(trial.number)))
    first = run.config.evaluation.protocols[0]["protocol"]

    def report(record: dict[str, Any]) -> None:
        if record["kind"] != "evaluation" or record["protocol"] != first:
            return
        trial.report(record["accuracy"], record["step"])
        if trial.should_prune():
            trial.set_user_attr("reason", f"below the median at step {record['step']}")
            raise optuna.TrialPruned

    try:
        outcome = train(run, report)
    except (TrainingFailedError, UserError) as error:  # such as embeddings of weights that went astray
        trial.set_user_attr("reason", str(error))
        raise optuna.TrialPruned from error
    if outcome.stopped:
        raise SweepStoppedError(f"stopped in trial {trial.number} as asked; the same command goes on")
    return float(run.best or 0.0)


def _row(sweep: Sweep, trial: Any) -> Trial:
    reached = [value for value in trial.intermediate_values.values() if not math.isnan(value)]
    accuracy = trial.value if trial.value is not None else max(reached, default=None)
    keys = {key: str(trial.params[key]) for key in sweep.space if key in trial.params}
    state = {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial.state.name, "failed")
    return Trial(trial.number, state, accuracy, keys, trial.user_attrs.get("reason", ""))


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """The complete trial with the highest accuracy, the earliest of equals; None where none is complete."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.accuracy is not None]
    return max(complete, key=lambda trial: (trial.accuracy or 0.0, -trial.number), default=None)
