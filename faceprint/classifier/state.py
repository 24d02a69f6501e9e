"""Class centres and their optimiser's state on disk, as one logical tensor [C, D] in files of class ranges.

Each process writes the range of classes that it holds; any number of processes read what they need of the files, so a
training saved on n goes on with m.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sized
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from faceprint.classifier.optim import CentreOptimizer, move
from faceprint.classifier.partial_fc import PartialFC
from faceprint.errors import UserError
from faceprint.files import write_whole

PATTERN = "centres-*.safetensors"
BEHIND = "optimizer.behind"
"""By how many steps each centre is, where `update` is "dense"."""


@torch.no_grad()
def save_classes(
    folder: Path, classifier: PartialFC, optimizer: CentreOptimizer | None = None, classes: range | None = None
) -> Path:
    """Write the classes of this process, and what `optimizer` remembers of them, into `folder`; every process does.

    `classes` are a range of them (of class numbers, step 1), None: all. The file is there whole or not at all; its
    name says which classes are in it. Raises `UserError` for a range that this process does not have.
    """
    if optimizer is not None:
        optimizer.flush()
    file = class_file(classifier, optimizer, classes)
    path = folder / file.name
    write_whole(path, safetensors.torch.save(file.tensors, file.metadata))
    return path


class ClassFile(NamedTuple):
    """A file of class centres: its name, and its content on the CPU."""

    name: str
    tensors: dict[str, Tensor]
    metadata: dict[str, str]


@torch.no_grad()
def class_file(
    classifier: PartialFC, optimizer: CentreOptimizer | None = None, classes: range | None = None
) -> ClassFile:
    """What a checkpoint has of these classes; tensors that are on the CPU are not copied.

    Rows that wait for the updates of `update` "dense" are left as they are: made up for now, in two parts, those would
    round to other weights than those of a training that was not saved. By how many steps each is behind is in the file.
    """
    own = range(classifier.first_class, classifier.first_class + classifier.num_local)
    wanted = own if classes is None else classes
    if wanted.step != 1 or not own.start <= wanted.start < wanted.stop <= own.stop:
        raise UserError(f"classes {wanted}: this process has {own.start} .. {own.stop - 1}")
    rows = slice(*((place - own.start) * classifier.sub_centers for place in (wanted.start, wanted.stop)))
    tensors = {name: tensor.detach()[rows].cpu().contiguous() for name, tensor in _tensors(classifier, optimizer)}
    described = {
        "num_classes": str(classifier.num_classes),
        "sub_centers": str(classifier.sub_centers),
        "first_class": str(wanted.start),
    }
    if optimizer is not None and optimizer.lag is not None:
        described["lag"] = json.dumps(optimizer.lag.matrices().tolist())
    return ClassFile(f"centres-{wanted.start:010d}-{wanted.stop:010d}.safetensors", tensors, described)


def shared_state(classifier: PartialFC, optimizer: CentreOptimizer) -> dict[str, Any]:
    """All else that the next step needs, the same in every process: counters, and what the margin learns."""
    by_class = {"centres", "bias"}
    return {
        "buffers": {name: value for name, value in classifier.state_dict().items() if name not in by_class},
        "steps": [group["steps"] for group in optimizer.param_groups],
        "margin": [dict(optimizer.state[parameter]) for parameter in classifier.margin.parameters()],
    }


def load_shared_state(state: dict[str, Any], classifier: PartialFC, optimizer: CentreOptimizer) -> None:
    """Take up what `shared_state` gave. Of another margin it is left out: this one begins anew."""
    own = classifier.state_dict()
    classifier.load_state_dict({**own, **{name: value for name, value in state["buffers"].items() if name in own}})
    for group, steps in zip(optimizer.param_groups, state["steps"], strict=False):
        group["steps"] = steps
    for parameter, moments in zip(classifier.margin.parameters(), state["margin"], strict=False):
        for name, tensor in moments.items():
            optimizer.state[parameter][name] = tensor.to(parameter.device)


def head_prefix(number: int, heads: Sized) -> str:
    """What the names of head `number`'s files begin with, where there are several `heads`."""
    return f"head{number:03d}-" if len(heads) > 1 else ""


@torch.no_grad()
def load_classes(
    folder: Path, classifier: PartialFC, optimizer: CentreOptimizer | None = None, *, prefix: str = ""
) -> None:
    """Read the classes of this process from files that any number of processes wrote, of names with this `prefix`.

    Reads no other rows. Raises `UserError`, before anything is changed, where a class is in no file, where the files
    are of another number of classes, centres or dimensions, where the optimiser's state is missing or another's, and
    where rows are behind and `optimizer` is not of the same `update`.
    """
    files = sorted(folder.glob(prefix + PATTERN))
    if not files:
        raise UserError(f"{folder}: has no class centres ({prefix + PATTERN})")
    subs = classifier.sub_centers
    wanted = range(classifier.first_class * subs, (classifier.first_class + classifier.num_local) * subs)
    with ExitStack() as stack:
        opened: list[Any] = []
        for file in files:
            try:
                opened.append(stack.enter_context(safetensors.safe_open(file, "pt")))
            except (SafetensorError, OSError) as error:
                raise UserError(f"{file}: not a readable file of class centres ({error})") from error
            _check(file, opened[-1].metadata() or {}, classifier)
        parts = {name: _rows(folder, files, opened, name, wanted, own) for name, own in _tensors(classifier, optimizer)}
        lags = [_matrices(file, tensors.metadata()) for file, tensors in zip(files, opened, strict=True)]
    matrices = max(lags, key=len)  # the files' ends are the same
    if BEHIND in parts:
        _check_lag(folder, parts[BEHIND], matrices)
    elif len(matrices) > 1:
        raise UserError(f"{folder}: its rows wait for updates of classifier.update=dense, with which it can go on")
    for name, own in _tensors(classifier, optimizer):
        own.copy_(parts[name])
    if optimizer is not None and optimizer.lag is not None:
        optimizer.lag.take_up(parts[BEHIND], matrices)


def read_classes_of(file: Path) -> dict[str, Tensor]:
    """Centres, and biases if there are any, of all classes in a file of a checkpoint, brought up to date.

    Raises `UserError`.
    """
    try:
        with safetensors.safe_open(file, "pt") as opened:  # pyright: ignore[reportUnknownMemberType]
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
            matrices = _matrices(file, opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: not a readable file of class centres ({error})") from error
    behind = tensors.get(BEHIND)
    if behind is not None:
        _check_lag(file, behind, matrices)
        since = torch.from_numpy(matrices[len(matrices) - 1 - behind.numpy()]).float()
        _, moved = move(since, tensors["optimizer.momentum"].float(), tensors["centres"].float())
        tensors["centres"] = moved.to(tensors["centres"].dtype)
    return {name: tensors[name] for name in ("centres", "bias") if name in tensors}


def _matrices(file: Path, described: dict[str, str]) -> NDArray[np.float64]:
    """Those of `Lag.matrices`; the identity alone where no row is behind."""
    try:
        matrices = np.array(json.loads(described.get("lag", "[[[1, 0], [0, 1]]]")), np.float64)
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{file}: its lag is not a list of 2 x 2 matrices ({error})") from error
    if matrices.shape[1:] != (2, 2) or not len(matrices):
        raise UserError(f"{file}: its lag is not a list of 2 x 2 matrices")
    return matrices


def _check_lag(place: Path, behind: Tensor, matrices: NDArray[np.float64]) -> None:
    if int(behind.min()) < 0 or int(behind.max()) >= len(matrices):
        raise UserError(f"{place}: {BEHIND} lies in 0 .. {len(matrices) - 1}, the steps that the file describes")


def change_classes(classifier: PartialFC, keep: Tensor, new: Tensor | None = None) -> PartialFC:
    """A classifier with the classes `keep` (N,) of this one, in that order, and after them one for each row of `new`.

    `new` (M, D) are embeddings, such as the mean of a new identity's images: its centres take their direction, and the
    mean length of the kept ones. For one process; every option stays but `class_weights`, which count other images
    now. Raises `UserError` for classes that are not there.
    """
    if classifier.num_local != classifier.num_classes:
        raise UserError("classes are changed in one process; save them and load them there")
    if len(keep) and not (int(keep.min()) >= 0 and int(keep.max()) < classifier.num_classes):
        raise UserError(f"classes to keep lie in 0 .. {classifier.num_classes - 1}")
    subs, dim = classifier.sub_centers, classifier.embedding_dim
    kept = classifier.centres.detach().view(-1, subs, dim)[keep].float()
    added = torch.empty(0, subs, dim)
    if new is not None:
        length = kept.norm(dim=2).mean() if len(kept) else torch.tensor(1.0)
        added = new_centres(new, length).expand(-1, subs, -1)
    changed = PartialFC(
        dim,
        len(kept) + len(added),
        classifier.margin,
        classifier.sample_rate,
        sub_centers=subs,
        label_smoothing=classifier.label_smoothing,
        centres="bf16" if classifier.centres.dtype == torch.bfloat16 else "fp32",
        product="bf16" if classifier.product == torch.bfloat16 else "fp32",
        same_for_any_world=classifier.same_for_any_world,
    )
    with torch.no_grad():
        changed.centres.copy_(torch.cat([kept, added]).reshape(-1, dim))
        if changed.bias is not None and classifier.bias is not None:
            changed.bias[: len(kept) * subs] = classifier.bias.view(-1, subs)[keep].flatten()
    return changed


def new_centres(embeddings: Tensor, length: Tensor) -> Tensor:
    """Centres (M, 1, D) in the direction of `embeddings` (M, D), all of this `length`."""
    return (nn.functional.normalize(embeddings.float()) * length)[:, None]


def _tensors(classifier: PartialFC, optimizer: CentreOptimizer | None) -> Iterator[tuple[str, Tensor]]:
    """What is written, one row a centre."""
    yield "centres", classifier.centres
    if classifier.bias is not None:
        yield "bias", classifier.bias
    if optimizer is None:
        return
    for name, tensor in optimizer.state[classifier.centres].items():
        yield f"optimizer.{name}", tensor
    if optimizer.lag is not None:
        yield BEHIND, optimizer.lag.behind()
    if classifier.bias is not None:
        for name, tensor in optimizer.moments(classifier.bias).items():
            yield f"optimizer.bias.{name}", tensor


def _check(file: Path, described: dict[str, str], classifier: PartialFC) -> None:
    for key in ("num_classes", "sub_centers"):
        given, own = described.get(key), str(getattr(classifier, key))
        if given != own:
            raise UserError(f"{file}: is of {key}={given}, this classifier has {own}")


def _first_row(file: Path, described: dict[str, str]) -> int:
    """The row of the logical tensor that the file begins with. `_check` has seen `described`."""
    first = described.get("first_class", "")
    if not (first.isascii() and first.isdigit()):
        raise UserError(f"{file}: does not say which class it begins with (first_class is {first!r})")
    return int(first) * int(described["sub_centers"])


def _rows(folder: Path, files: list[Path], opened: list[Any], name: str, wanted: range, own: Tensor) -> Tensor:
    """Rows `wanted` of the logical tensor `name`, of the shape and type of `own`."""
    found = torch.empty(own.shape, dtype=own.dtype)
    missing = len(wanted)
    for file, tensors in zip(files, opened, strict=True):
        if name not in tensors.keys():  # noqa: SIM118 - not a mapping
            raise UserError(f"{file}: has no {name}; it was saved without, or by another optimiser")
        rows = tensors.get_slice(name)
        shape = rows.get_shape()
        if shape[1:] != list(own.shape[1:]):
            raise UserError(f"{file}: {name} has rows of shape {shape[1:]}, here they have {list(own.shape[1:])}")
        at = _first_row(file, tensors.metadata())
        low, high = max(wanted.start, at), min(wanted.stop, at + shape[0])
        if low < high:
            found[low - wanted.start : high - wanted.start] = rows[low - at : high - at]
            missing -= high - low
    if missing:
        raise UserError(f"{folder}: {missing:,} rows of {name} are in none of its {len(files)} files")
    return found
