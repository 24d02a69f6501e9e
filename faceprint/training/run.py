"""A run: its place in the training, and the folder that holds what it wrote."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from faceprint import __version__
from faceprint.config import Config
from faceprint.distributed import by_first_rank, gather_objects, rank
from faceprint.errors import UserError
from faceprint.evaluation.pairs import PairSet
from faceprint.evaluation.protocols import evaluate_pairs
from faceprint.files import write_whole
from faceprint.inference.embedder import Embedder, network_embedder
from faceprint.inference.folding import fold_norms
from faceprint.inference.model_folder import ModelCard, save_model
from faceprint.models import FaceNetwork
from faceprint.recipe import dump
from faceprint.training.checkpoint import (
    CheckpointWriter,
    list_checkpoints,
)
from faceprint.training.claim import Claim
from faceprint.training.guard import is_stuck
from faceprint.training.logging import Logger, RunInfo, open_loggers
from faceprint.training.logging.jsonl import read_metrics
from faceprint.training.measure import Means
from faceprint.training.replicas import average_buffers, averaged
from faceprint.training.state import restore, state_pieces
from faceprint.training.stopping import Agreement, StopRequest
from faceprint.training.trainer import Trainer

COUNTERS = ("step", "best", "since_best", "owes_evaluation")
"""What a checkpoint keeps of a run's own attributes."""
LOG = logging.getLogger("faceprint")


class Run:
    """Step, running means and best accuracy of a training, and its folder (None for a dry run, which writes nothing).

    Made by `open_run`. The folder has `config.yaml`, `classes.json` (the names of the labels), `manifest.json`,
    `metrics.jsonl`, `training.log`, `checkpoints/` and `model/`.
    """

    def __init__(
        self, config: Config, folder: Path | None, claim: Claim, trainer: Trainer, pair_sets: list[PairSet]
    ) -> None:
        self.config = config
        self.folder = folder
        self.claim = claim
        """Held as long as this is: no other process trains in the folder."""
        self.trainer = trainer
        self.pair_sets = pair_sets
        self.step = 0
        self.means = Means.on(trainer.device)
        self.best: float | None = None
        self.since_best = 0
        """Evaluations since the best one."""
        self.owes_evaluation = False
        """Whether one is due at the present step, and was not made because the run was asked to stop."""
        self._writer = checkpoint_writer(config, folder)
        self._agreement = Agreement()
        self._last_result: dict[str, Any] | None = None
        self._last_step = 0
        self._first_record: dict[str, Any] | None = None
        self._judged = False
        """Whether `watch_progress` has looked."""
        self._loggers: list[Logger] = []
        self.passed_over: list[str] = []
        """What is wrong with checkpoints newer than the one this run was continued from."""

    @property
    def position(self) -> dict[str, Any]:
        return {"step": self.step, "epoch": round(self.trainer.plan.epoch(self.step), 4)}

    def open_loggers(self) -> None:
        if self.folder is not None and rank() == 0:
            for record in read_metrics(self.folder):  # of a run that goes on
                if record["kind"] == "train":
                    self._judges(record)
            self._loggers = open_loggers(
                RunInfo(
                    folder=self.folder,
                    config=self.config.model_dump(mode="json"),
                    log=self.config.log,
                    total_steps=self.trainer.plan.total_steps,
                    first_step=self.step,
                )
            )

    def log(self, record: dict[str, Any]) -> dict[str, Any]:
        """Write `record` to every logger and give it back."""
        for logger in self._loggers:
            logger.write(record)
        return record

    def warn(self, message: str) -> dict[str, Any]:
        """Write a warning to every logger, say it in the program's log, and give back its record."""
        if rank() == 0:
            LOG.warning("step %d: %s", self.step, message)
        return self.log({"kind": "warning", **self.position, "message": message})

    def watch_progress(self, record: dict[str, Any]) -> None:
        """Say once, a tenth into the training, that it learns nothing, where `record` looks like the first one."""
        judged, first = self._judges(record)
        if judged and is_stuck(first, record, self.trainer.plan.num_classes):
            self.warn(
                f"the loss is {record['loss']:.4g}, as at the start ({first['loss']:.4g}), and people are"
                " told apart no better than by chance: check the labels (faceprint data check), try a lower"
                " optimizer.lr, a longer schedule.warmup or a smaller margin"
            )

    def _judges(self, record: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        """Whether the progress shows by this training record, and the first one."""
        self._first_record = self._first_record or record
        judges = not self._judged and record["step"] >= max(100, self.trainer.plan.total_steps // 10)
        self._judged = self._judged or judges
        return judges, self._first_record

    def dump(self, figures: Mapping[str, Any]) -> str:
        """Write `figures` about a failed step beside the run; returns a clause that says where, in rank 0."""
        if self.folder is None or rank() != 0:
            return ""
        path = self.folder / f"failed_step_{figures['step']:09d}.json"
        write_whole(path, (json.dumps(figures, indent=1) + "\n").encode())
        return f", see {path}"

    def evaluate(self) -> list[dict[str, Any]]:
        """Score the present weights by every protocol; keeps the model if it is the best by the first one."""
        trainer = self.trainer
        chosen = trainer.best_weights()
        average_buffers(chosen)
        chosen.eval()
        # Folded norms save about a third of the time. What is not folded is shared with the network in training.
        embedder = network_embedder(fold_norms(chosen), trainer.spec, trainer.device, name="the network in training")
        try:
            results = [timed_result(embedder, pairs) for pairs in self.pair_sets]
        finally:
            chosen.train()
        results = gather_objects(results)[0]  # the same in every process, to the last bit
        self._last_result, self._last_step = (results[0] if results else None), self.step
        if results:
            self._compare(results[0])
        self.owes_evaluation = False
        return [{"kind": "evaluation", **self.position, **result} for result in results]

    def log_evaluation(self, report: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
        """`evaluate`, its records written to every logger and given to `report`."""
        records = [self.log(record) for record in self.evaluate()]
        for record in records:
            report(record)
        return records

    def evaluation_is_due(self) -> bool:
        """Whether the step that was just done is followed by an evaluation."""
        every, epoch = self.config.evaluation.every, self.trainer.plan.epoch
        if self.config.evaluation.unit == "step" or not every:
            return every > 0 and self.step % every == 0
        return int(epoch(self.step) / every) > int(epoch(self.step - 1) / every)

    def _compare(self, result: dict[str, Any]) -> None:
        """Keep the model of `result` if it is the best so far, and count those since the best."""
        found = figure(result, self.config.evaluation.metric)
        if self.best is not None and found <= self.best:
            self.since_best += 1
            return
        self.best, self.since_best = found, 0
        if self.config.evaluation.keep == "best":
            try:
                self.save_model(result)
            except UserError as error:  # a full disk must not end the training
                self.warn(f"the model was not written, the training goes on: {error}")

    @property
    def stalled(self) -> bool:
        """Whether so many evaluations went by without a better figure that the training should end."""
        return 0 < self.config.evaluation.patience <= self.since_best

    def finish(self) -> None:
        """Leave the last weights in `model/` unless better ones of an evaluation are there."""
        self.publish_checkpoint()  # first: the model may fail to be written
        if not (self.pair_sets and self.config.evaluation.keep == "best"):
            self.save_model(self._last_result)

    def close(self) -> None:
        """Wait for the last checkpoint and close the loggers."""
        self.publish_checkpoint()
        self.close_loggers()

    def close_loggers(self) -> None:
        """Let the loggers write what they still have. They get nothing more."""
        for logger in self._loggers:
            logger.close()
        self._loggers = []

    def abandon(self) -> None:
        """Remove the folder of a new run that failed before its first checkpoint: nothing in it is worth keeping."""
        self.close_loggers()
        if (
            self.folder is not None
            and rank() == 0
            and not self.config.resume
            and not list_checkpoints(self.folder / "checkpoints")
        ):
            shutil.rmtree(self.folder)

    def save_model(self, result: dict[str, Any] | None) -> None:
        """Write `model/`. `result` is the evaluation of these weights; its threshold becomes the model's."""
        if self.folder is None:
            return
        folder, network = self.folder, self.trainer.best_weights()
        average_buffers(network)
        by_first_rank(lambda: self._write_model(folder / "model", network, result))

    def _write_model(self, folder: Path, network: FaceNetwork, result: dict[str, Any] | None) -> None:
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
        save_model(folder, network, card)

    def save_checkpoint(self) -> None:
        """Begin to write everything that makes the next step the same; `publish_checkpoint` ends it."""
        if self._writer is None:
            return
        self.publish_checkpoint()
        evaluated = self._last_result is not None and self._last_step == self.step
        described = {
            "config_sha256": hashlib.sha256(dump(self.config).encode()).hexdigest(),
            "program": f"faceprint {__version__}",
            "figure": figure(self._last_result, self.config.evaluation.metric) if evaluated else None,
        }
        counters = {name: getattr(self, name) for name in COUNTERS}
        counters["means"] = self.means.state_dict()
        counters["global_batch"] = self.trainer.plan.global_batch
        with averaged(self.trainer.networks()) as own:
            pieces = state_pieces(self.trainer, own, counters, copied=self.config.checkpoint.background)
            self._writer.start(self.step, pieces, described)
        if not self.config.checkpoint.background:
            self.publish_checkpoint()

    def publish_checkpoint(self) -> None:
        """Let the checkpoint that is being written appear, waiting for it; say so where it could not be written."""
        if self._writer is None or not self._writer.pending:
            return
        reason = self._writer.publish()
        if reason is not None:
            self.warn(f"no checkpoint was written, the training goes on: {reason}")

    def ask(self, stop: StopRequest) -> None:
        """Begin to find out what `agreed` says."""
        self._agreement.ask(stop=stop.asked, written=self._writer is not None and self._writer.written)

    def agreed_to_stop(self) -> bool:
        """Whether any process was asked to stop before this step. Lets a checkpoint appear that all have written."""
        stop, written = self._agreement.answer()
        if written:
            self.publish_checkpoint()
        return stop

    def load_checkpoint(self, path: Path) -> None:
        """Go back to the state in `path`. Raises `UserError` where it is another network's or other data's."""
        counters = restore(self.trainer, path, self.config.seed)
        was, now = counters["global_batch"], self.trainer.plan.global_batch
        if was != now and "batch_size" not in self.config.resume_changes:
            raise UserError(
                f"{path}: its steps are of {was} images, these of {now} (batch_size x processes x accumulate); change"
                " one of them, or allow another curve by resume_changes=[batch_size]"
            )
        for name in COUNTERS:
            setattr(self, name, counters[name])
        self.means.load_state_dict(counters["means"])

    def last_good(self) -> str:
        """A clause that says which checkpoint a failed run leaves."""
        saved = list_checkpoints(self.folder / "checkpoints") if self.folder else []
        return f"the last good checkpoint is {saved[-1]}" if saved else "no checkpoint was written before"


def checkpoint_writer(config: Config, folder: Path | None) -> CheckpointWriter | None:
    if folder is None:
        return None
    return CheckpointWriter(
        folder / "checkpoints", keep=config.checkpoint.keep, background=config.checkpoint.background
    )


def timed_result(embedder: Embedder, pairs: PairSet) -> dict[str, Any]:
    """The result of `evaluate_pairs`, and the `seconds` it took."""
    began = time.perf_counter()
    result = evaluate_pairs(embedder, pairs).result
    return {**result, "seconds": round(time.perf_counter() - began, 2)}


def figure(result: Mapping[str, Any] | None, name: str) -> float:
    """The figure of an evaluation that `name` says: `accuracy`, or of a mapping in it: `tar_at_far.1e-3`."""
    found: Any = result
    for part in name.split(".", 1):
        found = found.get(part) if isinstance(found, Mapping) else None
    if not isinstance(found, int | float):
        numbers = [key for key, value in (result or {}).items() if isinstance(value, int | float | Mapping)]
        raise UserError(f"evaluation.metric={name}: not a figure of the protocol; its figures: {', '.join(numbers)}")
    return float(found)
