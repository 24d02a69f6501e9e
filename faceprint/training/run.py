"""A run: its place in the training, and the folder that holds what it wrote."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from faceprint import __version__
from faceprint.config import Config, dump, load_config
from faceprint.errors import UserError
from faceprint.evaluation.pairs import PairSet
from faceprint.evaluation.protocols import check_size, evaluate_pairs, load_protocol
from faceprint.inference.embedder import network_embedder
from faceprint.inference.folding import fold_norms
from faceprint.inference.model_folder import ModelCard, save_model
from faceprint.training.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from faceprint.training.initial import write_names
from faceprint.training.logging import LOGGERS, Logger, MetricsFile
from faceprint.training.logging.jsonl import forget_after
from faceprint.training.measure import Means
from faceprint.training.setup import Trainer, build_trainer
from faceprint.training.sources import fingerprint

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
        "loader",
        "evaluation",
        "checkpoint",
        "log",
    }
)


class Run:
    """Step, running means and best accuracy of a training, and its folder (None for a dry run, which writes nothing).

    Made by `open_run`. The folder has `config.yaml`, `classes.json` (the names of the labels), `metrics.jsonl`,
    `checkpoints/` and `model/`.
    """

    def __init__(self, config: Config, folder: Path | None, trainer: Trainer, pair_sets: list[PairSet]) -> None:
        self.config = config
        self.folder = folder
        self.trainer = trainer
        self.pair_sets = pair_sets
        self.step = 0
        self.means = Means.on(trainer.device)
        self.best: float | None = None
        self._last_result: dict[str, Any] | None = None
        self._loggers: list[Logger] = []

    @property
    def position(self) -> dict[str, Any]:
        return {"step": self.step, "epoch": round(self.trainer.plan.epoch(self.step), 4)}

    def open_loggers(self) -> None:
        if self.folder is not None:
            factories = [MetricsFile, *(LOGGERS[name] for name in self.config.log.loggers)]
            self._loggers = [factory(self.folder) for factory in factories]

    def log(self, record: dict[str, Any]) -> dict[str, Any]:
        """Write `record` to every logger and give it back."""
        for logger in self._loggers:
            logger.write(record)
        return record

    def evaluate(self) -> list[dict[str, Any]]:
        """Score the present weights by every protocol; keeps the model if it is the best by the first one."""
        trainer = self.trainer
        # Folded norms save about a third of the time; the fold is a copy.
        trainer.network.eval()
        network = fold_norms(trainer.network)
        trainer.network.train()
        embedder = network_embedder(network, trainer.spec, trainer.device, name="the network in training")
        results = [evaluate_pairs(embedder, pairs).result for pairs in self.pair_sets]
        self._last_result = results[0] if results else None
        if results and (self.best is None or results[0]["accuracy"] > self.best):
            self.best = results[0]["accuracy"]
            if self.config.evaluation.keep == "best":
                self.save_model(results[0])
        return [{"kind": "evaluation", **self.position, **result} for result in results]

    def finish(self) -> None:
        """Close the loggers; leave the last weights in `model/` unless better ones of an evaluation are there."""
        for logger in self._loggers:
            logger.close()
        if not (self.pair_sets and self.config.evaluation.keep == "best"):
            self.save_model(self._last_result)

    def abandon(self) -> None:
        """Remove the folder of a new run that failed before its first checkpoint: nothing in it is worth keeping."""
        for logger in self._loggers:
            logger.close()
        if self.folder is not None and not self.config.resume and not list_checkpoints(self.folder / "checkpoints"):
            shutil.rmtree(self.folder)

    def save_model(self, result: dict[str, Any] | None) -> None:
        """Write `model/`. `result` is the evaluation of these weights; its threshold becomes the model's."""
        if self.folder is None:
            return
        trainer, config = self.trainer, self.config
        provenance: dict[str, Any] = {
            "program": f"faceprint {__version__}",
            "recipe": config.recipe,
            "data": f"{config.data.source}: {trainer.plan.num_images} images of {trainer.plan.num_classes} identities",
            "margin": config.margin.model_dump(),
            "seed": config.seed,
            "step": self.step,
        }
        if result is not None:
            provenance["evaluation"] = {key: result[key] for key in ("protocol", "accuracy", "num_pairs")}
        card = ModelCard(
            architecture=config.network.name,
            options=config.network.options,
            embedding_dim=trainer.network.embedding_dim,
            input=trainer.spec,
            licence=config.licence,
            provenance=provenance,
            threshold=None if result is None else result["threshold"],
        )
        save_model(self.folder / "model", trainer.network, card)

    def save_checkpoint(self) -> None:
        """Write everything that makes the next step the same."""
        if self.folder is None:
            return
        trainer = self.trainer
        state = {
            "network": trainer.network.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            # Before the classifier's: it brings rows up to date that were left out for some steps.
            "head_optimizer": trainer.head_optimizer.state_dict() if trainer.head_optimizer else None,
            "classifier": trainer.classifier.state_dict(),
            "scaler": trainer.scaler.state_dict(),
            "means": self.means.state_dict(),
            "best": self.best,
            "random": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()},
            "data": fingerprint(trainer.source),
        }
        save_checkpoint(self.folder / "checkpoints", self.step, state, keep=self.config.checkpoint.keep)

    def load_checkpoint(self, path: Path) -> None:
        """Go back to the state in `path`. Raises `UserError` where it is another network's or other data's."""
        state, trainer = load_checkpoint(path), self.trainer
        if state["data"] != fingerprint(trainer.source):
            raise UserError(f"{path}: identities or labels of the data are not those that this run was trained on")
        trainer.network.load_state_dict(state["network"])
        trainer.classifier.load_state_dict(state["classifier"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        if trainer.head_optimizer:
            trainer.head_optimizer.load_state_dict(state["head_optimizer"])
        trainer.scaler.load_state_dict(state["scaler"])
        self.means.load_state_dict(state["means"])
        self.best = state["best"]
        self.step = state["step"]
        torch.set_rng_state(state["random"]["cpu"])
        if trainer.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["random"]["cuda"])

    def last_good(self) -> str:
        """A clause that says which checkpoint a failed run leaves."""
        saved = list_checkpoints(self.folder / "checkpoints") if self.folder else []
        return f"the last good checkpoint is {saved[-1]}" if saved else "no checkpoint was written before"


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
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("training runs in one process so far; start faceprint train without a launcher")
    folder = run_folder(config)
    if folder is not None and config.resume:
        check_same(config, folder)
    elif folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists; continue it with resume=true, or choose another run folder with out=DIR")
    pair_sets = [load_pairs(options, config.network.image_size) for options in config.evaluation.protocols]
    trainer = build_trainer(config)
    for pairs in pair_sets:
        check_size(pairs, trainer.spec)  # now, and not after the first thousand steps
    run = Run(config, folder, trainer, pair_sets)
    if folder is not None:
        start_folder(run, folder)
    run.open_loggers()
    return run


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
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.yaml").write_text(dump(run.config), encoding="utf-8")
            write_names(folder, run.trainer.source.class_names)
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another with out=DIR") from error
        return
    saved = list_checkpoints(folder / "checkpoints")
    if not saved:
        raise UserError(f"{folder} has no checkpoint to resume from; remove the folder and start it again")
    run.load_checkpoint(saved[-1])
    forget_after(folder, run.step)


def check_same(config: Config, folder: Path) -> None:
    """Raise `UserError` unless the run in `folder` has the same configuration, but for `FREE_ON_RESUME`."""
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder}: nothing to resume there; start it without resume=true")
    old, new = load_config(str(folder / "config.yaml")).model_dump(), config.model_dump()
    changed = [f"{key} was {old[key]!r}, is {new[key]!r}" for key in new if old[key] != new[key]]
    changed = [line for line in changed if line.split(" ")[0] not in FREE_ON_RESUME]
    if changed:
        raise UserError(f"{folder}: resume=true continues the same curve, but {'; '.join(changed)}")
