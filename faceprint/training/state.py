"""From a trainer to the files of a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from faceprint.classifier.state import class_file, head_prefix, load_classes, load_shared_state, shared_state
from faceprint.distributed import rank, world_size
from faceprint.errors import UserError
from faceprint.training.checkpoint import SHARED, Pieces, load_part, read_manifest
from faceprint.training.randomness import cuda_random, seed_process
from faceprint.training.replicas import gathered, load_network, load_optimizer, set_moments
from faceprint.training.trainer import Trainer


def state_pieces(trainer: Trainer, own: list[Tensor], counters: dict[str, Any], *, copied: bool) -> Pieces:
    """What this process writes of a checkpoint: `counters` and all that `trainer` holds, or copies of it.

    `own` are this process's moments, those of `trainer` being averaged.
    """
    hold: Callable[[Any], Any] = copy_of if copied else _itself
    pieces: dict[str, Callable[[Path], object]] = {}
    for number, (head, optimizer) in enumerate(trainer.heads()):
        file = class_file(head, optimizer)
        pieces[head_prefix(number, trainer.heads()) + file.name] = partial(_save, hold(file.tensors), file.metadata)
    mine = hold({"cpu": torch.get_rng_state(), "cuda": cuda_random(), "moments": own})
    pieces[_own_file()] = lambda path: torch.save(mine, path)
    whole = _shared(trainer)  # in every process: sharded weights are gathered
    if rank() == 0:
        shared = hold({**counters, **whole})
        pieces[SHARED] = lambda path: torch.save(shared, path)
    return pieces


def _save(tensors: dict[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    save_file(tensors, path, metadata)


def _own_file() -> str:
    return f"rank-{rank():05d}.pt"


def _shared(trainer: Trainer) -> dict[str, Any]:
    return {
        "network": gathered(trainer.network.state_dict()),
        "average": None if trainer.average is None else trainer.average.state_dict(),
        "optimizer": gathered(trainer.optimizer.state_dict()),
        "distiller": None if trainer.distiller is None else trainer.distiller.state_dict(),
        "heads": [shared_state(head, optimizer) for head, optimizer in trainer.heads()],
        "scaler": trainer.scaler.state_dict(),
        "data": trainer.data_fingerprint,
        "classes": trainer.plan.num_classes,
    }


def restore(trainer: Trainer, path: Path, seed: int) -> dict[str, Any]:
    """Bring `trainer` to the state in the checkpoint `path`; returns its counters.

    Any number of processes reads what any number wrote. What `resume_changes` added since begins anew. Raises
    `UserError` where it is of other data, another network or another kind of optimiser.
    """
    state = load_part(path / SHARED)
    if state["classes"] != trainer.plan.num_classes:
        raise UserError(
            f"{path}: is of {state['classes']:,} identities, the data has {trainer.plan.num_classes:,}; start a new run"
            " with init_from to go on with other people"
        )
    if state["data"] != trainer.data_fingerprint:
        raise UserError(f"{path}: identities or labels of the data are not those that this run was trained on")
    try:
        _take_up(trainer, state, path)
    except UserError:
        raise
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"{path}: is of another configuration ({shorten(str(error), 300)})") from error
    trainer.scaler.load_state_dict(state["scaler"])
    _restore_own(trainer, path, seed, state["step"])
    return state


def _take_up(trainer: Trainer, state: dict[str, Any], path: Path) -> None:
    load_network(trainer.network, state["network"])
    if trainer.average is not None and state["average"] is not None:
        trainer.average.load_state_dict(state["average"])
    elif trainer.average is not None:
        load_network(trainer.average.module, state["network"])
    load_optimizer(trainer.optimizer, state["optimizer"])
    if trainer.distiller is not None and state["distiller"] is not None:
        trainer.distiller.load_state_dict(state["distiller"])
    for number, (head, optimizer) in enumerate(trainer.heads()):
        load_classes(path, head, optimizer, prefix=head_prefix(number, trainer.heads()))
        load_shared_state(state["heads"][number], head, optimizer)


def _restore_own(trainer: Trainer, path: Path, seed: int, step: int) -> None:
    """Random numbers and moments go on as they were; other numbers and the mean where the processes are others."""
    if read_manifest(path)["processes"] != world_size():
        seed_process(seed, step)
        return
    mine = load_part(path / _own_file())
    torch.set_rng_state(mine["cpu"])
    if trainer.device.type == "cuda" and mine["cuda"] is not None:
        torch.cuda.set_rng_state(mine["cuda"], trainer.device)
    set_moments(trainer.networks(), mine["moments"])


def copy_of(value: Any) -> Any:
    """`value` with its tensors copied, in CPU memory."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copy_of(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [copy_of(each) for each in value]
    return value


def _itself(value: Any) -> Any:
    return value
