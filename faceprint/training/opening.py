"""How a run begins: what it needs is built and checked, then its folder made, or the one there taken up."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from faceprint.config import Config
from faceprint.distributed import by_first_rank, together
from faceprint.errors import UserError
from faceprint.evaluation.pairs import PairSet
from faceprint.evaluation.protocols import check_size, load_protocol, summarize
from faceprint.files import write_whole
from faceprint.recipe import dump, load_config
from faceprint.training.checkpoint import clear_unfinished, list_checkpoints, newest
from faceprint.training.claim import Claim
from faceprint.training.initial import write_names
from faceprint.training.logging.jsonl import forget_after, read_metrics
from faceprint.training.manifest import add_to_manifest
from faceprint.training.run import Run, figure
from faceprint.training.setup import build_trainer

# Keys that may change between the parts of a run: they do not touch the weights or the figures of a step.
FREE_ON_RESUME = frozenset(
    {
        "resume",
        "out",
        "device",
        "recipe",
        "description",
        "licence",
        "published",
        "dry_run",
        "profile",
        "loader",
        "evaluation",
        "checkpoint",
        "distributed",
        "skip_nonfinite",
        "resume_changes",
        # `restore` compares the global batch instead.
        "batch_size",
        "accumulate",
        "log",
    }
)


def run_folder(config: Config) -> Path | None:
    """Where the run is written: `out`, or `runs/RECIPE`; None for a dry run."""
    if config.dry_run:
        return None
    return config.out or Path("runs") / (config.recipe or "run")


def open_run(config: Config) -> Run:
    """Build what `config` says, then make its run folder, or continue the one there with `resume`.

    Nothing is written before everything is built and checked. Raises `UserError`, for instance for a run folder that
    exists without `resume`, and for a resumed one whose configuration differs in a key that changes the curve.
    """
    folder, claim = run_folder(config), Claim()
    if folder is not None:
        by_first_rank(lambda: claim_if_there(claim, folder))
    config = settle_resume(config, folder)
    if folder is not None:
        by_first_rank(lambda: check_folder(config, folder))
    pair_sets = [load_pairs(options, config.network.image_size) for options in config.evaluation.protocols]
    for pairs in pair_sets[:1]:  # a metric that is none of its figures is seen now, and not at the first evaluation
        figure(summarize(pairs.same.astype(np.float64), pairs), config.evaluation.metric)
    trainer = build_trainer(config)
    check_batch(config.batch_size, trainer.network)
    for pairs in pair_sets:
        check_size(pairs, trainer.spec)  # now, and not after the first thousand steps
    run = Run(config, folder, claim, trainer, pair_sets)
    if folder is not None:
        start_folder(run, folder)
        by_first_rank(lambda: claim.take(folder))
        by_first_rank(lambda: add_to_manifest(folder, trainer, seed=config.seed, first_step=run.step))
    run.open_loggers()
    return run


def check_batch(batch_size: int, network: nn.Module) -> None:
    """Raise `UserError` for a batch that batch norm of embeddings has no variance of."""
    if batch_size == 1 and any(isinstance(module, nn.BatchNorm1d) for module in network.modules()):
        raise UserError(
            "batch_size=1: batch norm needs at least 2 images in each process; take batch_size=2 or more, or, with"
            " several processes, network.options.norm=syncbn"
        )


def claim_if_there(claim: Claim, folder: Path) -> None:
    """`claim.take` of a folder that is a run's already."""
    if (folder / "config.yaml").is_file():
        claim.take(folder)


def settle_resume(config: Config, folder: Path | None) -> Config:
    """`config` with `resume=auto` decided: `last_good` where `folder` has a checkpoint, false elsewhere."""
    if config.resume != "auto":
        return config
    found = folder is not None and by_first_rank(lambda: _has_checkpoint(config, folder))
    return config.model_copy(update={"resume": "last_good" if found else False})


def _has_checkpoint(config: Config, folder: Path) -> bool:
    """Whether there is one; removes the folder of this very run that was cut short before its first."""
    if list_checkpoints(folder / "checkpoints"):
        return True
    if (folder / "config.yaml").is_file() and _was_cut_short(config, folder):
        check_same(config, folder)
        shutil.rmtree(folder)
    return False


def _was_cut_short(config: Config, folder: Path) -> bool:
    """Whether a run without checkpoints has nothing to lose: no model yet, or one that its metrics say is made anew."""
    if not (folder / "model").exists():
        return True
    records = list(read_metrics(folder))
    if not records:
        return False
    step, epoch = records[-1]["step"], records[-1]["epoch"]
    if config.steps is not None:
        return step < config.steps
    return epoch + epoch / max(1, step) < (config.epochs or 0)


def check_folder(config: Config, folder: Path) -> None:
    """Raise `UserError` for a folder that a new run may not take, or that cannot be continued."""
    if config.resume:
        check_same(config, folder)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists; continue it with resume=true, or choose another run folder with out=DIR")


def load_pairs(options: Mapping[str, Any], image_size: tuple[int, int]) -> PairSet:
    """The pairs of one entry of `evaluation.protocols`; people are drawn at `image_size` unless it says otherwise."""
    if "protocol" not in options:
        raise UserError(f"an entry of evaluation.protocols needs the key protocol, got {dict(options)}")
    given = {key: value for key, value in options.items() if key != "protocol"}
    if options["protocol"] == "synthetic":
        given.setdefault("size", image_size)
    return load_protocol(options["protocol"], given)


def start_folder(run: Run, folder: Path) -> None:
    """Make the folder of a new run, or take up the last checkpoint of a resumed one."""
    if not run.config.resume:
        names = run.trainer.source.class_names
        by_first_rank(lambda: make_folder(run.config, folder, names))
        return
    path, damaged = newest(folder / "checkpoints", last_good=run.config.resume == "last_good")
    together(lambda: run.load_checkpoint(path))
    run.passed_over = damaged
    by_first_rank(lambda: tidy(folder, run.step))


def make_folder(config: Config, folder: Path, names: Sequence[str]) -> None:
    """The folder of a new run, with its configuration and the names of its classes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "config.yaml", dump(config).encode())
        write_names(folder, names)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another with out=DIR") from error


def tidy(folder: Path, step: int) -> None:
    """Remove what a run wrote after `step`, to which it goes back, and what a kill left half-written."""
    clear_unfinished(folder / "checkpoints")
    for path in folder.glob(".*.partial"):
        path.unlink()
    forget_after(folder, step)


def check_same(config: Config, folder: Path) -> None:
    """Raise `UserError` unless the run in `folder` has the same configuration, but for `FREE_ON_RESUME`."""
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder}: nothing to resume there; start it without resume=true")
    old, new = load_config(str(folder / "config.yaml")).model_dump(), config.model_dump()
    changed = [f"{key} was {old[key]!r}, is {new[key]!r}" for key in new if old[key] != new[key]]
    allowed = FREE_ON_RESUME | set(config.resume_changes)
    changed = [line for line in changed if line.split(" ")[0] not in allowed]
    if changed:
        keys = ", ".join(line.split(" ")[0] for line in changed)
        raise UserError(
            f"{folder}: resume=true continues the same curve, but {'; '.join(changed)}; another curve is had by"
            f" resume_changes=[{keys}]"
        )
