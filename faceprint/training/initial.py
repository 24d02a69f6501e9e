"""First weights from elsewhere: `init_from`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from faceprint.classifier import Heads, PartialFC, TripletLoss
from faceprint.classifier.state import PATTERN, head_prefix, new_centres, read_classes_of
from faceprint.data.pixels import InputSpec
from faceprint.data.source import Source
from faceprint.distributed import gather_rows
from faceprint.errors import UserError
from faceprint.files import write_whole
from faceprint.inference.embedder import network_embedder
from faceprint.inference.model_folder import TENSORS, find_model_folder
from faceprint.models import FaceNetwork
from faceprint.models.weights import load_weights
from faceprint.training.centres import mean_embeddings
from faceprint.training.checkpoint import SHARED, list_checkpoints, load_part
from faceprint.training.sources import fingerprint

CENTRES = "centres.safetensors"
CLASSES = "classes.json"
MAX_CLASSES_BYTES = 2**31
MARGIN = re.compile(r"(heads\.\d+\.)?margin\.")
"""Of the classifier's state, what belongs to its margins."""
BY_CLASS = ("centres", "bias")
"""Of the classifier's state, what has rows for each class."""


@dataclass(frozen=True)
class Start:
    """Where a training starts: `path` is a run folder, a model folder, or a file that `load_weights` reads.

    `match` takes over the centres of people who have the same name in both trainings. Centres of other people begin as
    the mean embedding of their first `images` images, by the network loaded; 0: as random numbers.
    """

    path: Path
    match: bool
    images: int


@dataclass(frozen=True)
class OldClasses:
    """A classifier's state, the fingerprint of its data, and the names of its classes where they were kept."""

    state: dict[str, Tensor]
    data: str
    names: list[str] | None


def start_from(
    start: Start,
    network: FaceNetwork,
    classifier: PartialFC | Heads | TripletLoss,
    source: Source,
    spec: InputSpec,
    device: torch.device,
) -> str:
    """Give `network` the weights in `start.path`, and `classifier` the centres of the people it knows.

    Both are on `device`. The state of a run on the same data is taken whole, but for what its margin remembers. Returns
    a clause that says what was taken, with counts. Raises `UserError` for weights that do not fit.
    """
    path = start.path
    load_weights(network, find_model_folder(path) / TENSORS if path.is_dir() else path)
    if isinstance(classifier, TripletLoss):
        return f"network from {path}"
    old = read_classes(path) if path.is_dir() else None
    if old is not None and old.data == fingerprint(source):
        take_all(path, old, classifier)
        return f"network and class centres from {path}"
    if isinstance(classifier, Heads):
        return f"network from {path}, new class centres (those of several sets are taken over on the same data only)"
    matches = np.full(len(source.class_names), -1, np.int64)
    if old is not None and old.names is not None and start.match and "centres" in old.state:
        matches = match_names(old.names, source.class_names)
        take_some(path, old, classifier, matches)
    clause = f"network from {path}; class centres: {counts(old, matches)}"
    new = np.flatnonzero(matches < 0)
    if not start.images or not len(new):
        return clause
    unreadable, missing = fill_new(start.images, new, network, classifier, source, spec, device)
    told = f" ({unreadable} cannot be read; {missing} people without any begin as random ones)" if unreadable else ""
    return f"{clause}; new ones begin as mean embeddings of at most {start.images} images{told}"


def counts(old: OldClasses | None, matches: NDArray[np.int64]) -> str:
    """How many classes were matched, are new and were dropped, in words."""
    matched = int((matches >= 0).sum())
    before = 0 if old is None or old.names is None else len(old.names)
    return f"{matched:,} taken over by name, {len(matches) - matched:,} new, {before - matched:,} dropped"


def match_names(old: Sequence[str], new: Sequence[str]) -> NDArray[np.int64]:
    """For each of the `new` names its place among the `old` ones, -1 where it is none of them."""
    places = {name: place for place, name in enumerate(old)}
    return np.array([places.get(name, -1) for name in new], np.int64)


def take_all(path: Path, old: OldClasses, classifier: PartialFC | Heads) -> None:
    """Give `classifier` its classes' part of `old`, which is of the same ones; its margin stays as it is."""
    taken = {name: value for name, value in old.state.items() if not MARGIN.match(name)}
    if isinstance(classifier, PartialFC):
        check_shape(path, old, classifier, classifier.num_classes)
    heads = {"": classifier} if isinstance(classifier, PartialFC) else dict(classifier.named_heads())
    for prefix, head in heads.items():
        rows = slice(*((head.first_class + place) * head.sub_centers for place in (0, head.num_local)))
        for name in taken.keys() & {prefix + name for name in BY_CLASS}:
            taken[name] = taken[name][rows]
    # What a margin remembers is of its own training; another margin's would not fit.
    fresh = {name: value for name, value in classifier.state_dict().items() if MARGIN.match(name)}
    try:
        classifier.load_state_dict({**taken, **fresh})
    except RuntimeError as error:
        raise UserError(f"{path}: its class centres do not fit this margin ({error})") from error


def check_shape(path: Path, old: OldClasses, classifier: PartialFC, num_classes: int) -> None:
    """Raise `UserError` unless the centres in `old` are of `num_classes` classes and of `classifier`'s kind."""
    given = tuple(old.state["centres"].shape) if "centres" in old.state else "those of several sets"
    expected = (num_classes * classifier.sub_centers, classifier.embedding_dim)
    if given != expected:
        raise UserError(
            f"{path}: its class centres are {given}, expected {expected}: other sub_centers or embedding_dim"
        )


@torch.no_grad()
def take_some(path: Path, old: OldClasses, classifier: PartialFC, matches: NDArray[np.int64]) -> None:
    """Give the classes of this process the centres (and biases) of their `matches` (C,) in `old`, if they have one."""
    assert old.names is not None
    check_shape(path, old, classifier, len(old.names))
    local = matches[classifier.first_class : classifier.first_class + classifier.num_local]
    here, there = (torch.from_numpy(places) for places in (np.flatnonzero(local >= 0), local[local >= 0]))
    for name, own in (("centres", classifier.centres), ("bias", classifier.bias)):
        if own is not None and name in old.state:
            taken = old.state[name].view(len(old.names), classifier.sub_centers, -1)[there]
            by_class(own, classifier)[here.to(own.device)] = taken.to(own)


@torch.no_grad()
def fill_new(
    images: int,
    new: NDArray[np.int64],
    network: FaceNetwork,
    classifier: PartialFC,
    source: Source,
    spec: InputSpec,
    device: torch.device,
) -> tuple[int, int]:
    """Centres for those of the `new` classes (M,) that this process has, from images. Every process must call it.

    Returns the images that could not be read, and the classes that kept their random centres because none of theirs
    could, of all processes.
    """
    first, last = classifier.first_class, classifier.first_class + classifier.num_local
    mine = new[(new >= first) & (new < last)]
    embedder = network_embedder(network, spec, device, name="the network of init_from")
    means, unreadable = mean_embeddings(embedder, source, mine, images)
    network.train()
    found = np.flatnonzero(means.any(1))
    rows = by_class(classifier.centres, classifier)
    taken = torch.ones(len(rows), dtype=torch.bool)
    taken[mine - first] = False
    made = new_centres(torch.from_numpy(means[found]).to(device), mean_length(rows, taken.to(device)))
    rows[torch.from_numpy(mine[found] - first).to(device)] = made.to(rows).expand(-1, classifier.sub_centers, -1)
    told = gather_rows(torch.tensor([len(unreadable), len(mine) - len(found)], device=device)).sum(0)
    return int(told[0]), int(told[1])


def mean_length(rows: Tensor, taken: Tensor) -> Tensor:
    """Of the centres (C, K, D) of the classes that were `taken` (C,) over, in all processes; of all where none was."""
    lengths = rows.float().norm(dim=2).mean(1)
    parts = torch.stack([lengths[taken].sum(), taken.sum(), lengths.sum(), torch.tensor(len(rows)).to(lengths)])
    taken_sum, taken_count, whole_sum, whole_count = gather_rows(parts).sum(0)
    return taken_sum / taken_count if taken_count else whole_sum / whole_count


def by_class(rows: Tensor, classifier: PartialFC) -> Tensor:
    """Centres or biases seen class by class: (num_local, sub_centers, D or 1)."""
    return rows.data.view(classifier.num_local, classifier.sub_centers, -1)


def read_classes(folder: Path) -> OldClasses | None:
    """What a folder that `write_classes` or a training wrote holds of its classifier; None where it holds nothing."""
    file = folder / CENTRES
    if file.is_file():
        try:
            with safetensors.safe_open(file, "pt") as opened:  # pyright: ignore[reportUnknownMemberType]
                state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
                return OldClasses(state, str((opened.metadata() or {}).get("data")), read_names(folder))
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file}: not a readable file of class centres ({error})") from error
    saved = list_checkpoints(folder / "checkpoints")
    return read_checkpoint_classes(saved[-1]) if saved else None


def read_checkpoint_classes(path: Path) -> OldClasses | None:
    """All classes of a checkpoint, whatever number of processes wrote it; None where a triplet loss has none."""
    shared = load_part(path / SHARED)
    heads = shared["heads"]
    state: dict[str, Tensor] = {}
    for number, head in enumerate(heads):
        parts = [read_classes_of(file) for file in sorted(path.glob(head_prefix(number, heads) + PATTERN))]
        whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        module = f"heads.{number}." if len(heads) > 1 else ""
        state.update({module + name: value for name, value in {**whole, **head["buffers"]}.items()})
    return OldClasses(state, shared["data"], read_names(path.parent.parent)) if heads else None


def write_classes(folder: Path, classes: OldClasses) -> None:
    """Keep a classifier's state, the fingerprint of its data and its classes' names in `folder`."""
    contiguous = {name: tensor.contiguous() for name, tensor in classes.state.items()}
    write_whole(folder / CENTRES, safetensors.torch.save(contiguous, {"data": classes.data}))
    if classes.names is not None:
        write_names(folder, classes.names)


def write_names(folder: Path, names: Sequence[str]) -> None:
    """Keep the names of classes, in the order of their labels, in `folder`."""
    write_whole(folder / CLASSES, json.dumps(list(names), ensure_ascii=False, indent=0).encode())


def read_names(folder: Path) -> list[str] | None:
    """The names that `write_names` left in `folder`; None where it left none. Raises `UserError`."""
    path = folder / CLASSES
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_CLASSES_BYTES:
        raise UserError(
            f"{path}: {path.stat().st_size:,} bytes; the names of classes take at most {MAX_CLASSES_BYTES:,}"
        )
    try:
        names = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a readable list of class names ({error})") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in cast("list[object]", names)):
        raise UserError(f"{path}: expected a list of class names")
    return cast("list[str]", names)
