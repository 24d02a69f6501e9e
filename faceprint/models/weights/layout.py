"""What a layout of published weights is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from faceprint.data.pixels import InputSpec
from faceprint.models.network import FaceNetwork
from faceprint.models.resnet import ResNetBackbone


class Source(Protocol):
    """Where a tensor of ours comes from, given the tensors of the file by their names."""

    @property
    def names(self) -> tuple[str, ...]:
        """What must be in the file."""
        ...

    def fits(self, given: Mapping[str, Tensor], ours: Tensor) -> bool:
        """Whether the tensors `names`, which are there, make one of the shape of `ours`."""
        ...

    def value(self, given: Mapping[str, Tensor], ours: Tensor) -> Tensor:
        """The tensor, of the shape and dtype of `ours`."""
        ...


@dataclass(frozen=True)
class Same:
    """The tensor of that name; dimensions of size 1 may be more or fewer, as (1, C, 1, 1) for our (C,)."""

    name: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def fits(self, given: Mapping[str, Tensor], ours: Tensor) -> bool:
        return [side for side in given[self.name].shape if side != 1] == [side for side in ours.shape if side != 1]

    def value(self, given: Mapping[str, Tensor], ours: Tensor) -> Tensor:
        return given[self.name].to(ours.dtype).reshape(ours.shape)


@dataclass(frozen=True)
class Shared:
    """The tensor of that name has one number, which all channels of ours take."""

    name: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def fits(self, given: Mapping[str, Tensor], ours: Tensor) -> bool:
        return given[self.name].numel() == 1

    def value(self, given: Mapping[str, Tensor], ours: Tensor) -> Tensor:
        return given[self.name].to(ours.dtype).reshape(()).expand(ours.shape)


@dataclass(frozen=True)
class Largest:
    """For each of the tensors of those names, the place of its largest number."""

    names: tuple[str, ...]

    def fits(self, given: Mapping[str, Tensor], ours: Tensor) -> bool:
        return all(given[name].numel() > 0 for name in self.names) and ours.shape == (len(self.names),)

    def value(self, given: Mapping[str, Tensor], ours: Tensor) -> Tensor:
        return torch.stack([given[name].argmax() for name in self.names]).to(ours.dtype)


@dataclass(frozen=True)
class Less:
    """The tensor `name` minus the tensor `other`, of the same shape.

    A mean that a norm subtracts, less the bias of the layer before it, which ours does without.
    """

    name: str
    other: str

    @property
    def names(self) -> tuple[str, ...]:
        return self.name, self.other

    def fits(self, given: Mapping[str, Tensor], ours: Tensor) -> bool:
        return given[self.name].shape == given[self.other].shape and Same(self.name).fits(given, ours)

    def value(self, given: Mapping[str, Tensor], ours: Tensor) -> Tensor:
        return (given[self.name] - given[self.other]).to(ours.dtype).reshape(ours.shape)


@dataclass(frozen=True)
class BlockDiagonal:
    """The weight of that name of a 1x1 convolution in groups, (out, in / groups, 1, 1), for ours without groups."""

    name: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def fits(self, given: Mapping[str, Tensor], ours: Tensor) -> bool:
        shape = given[self.name].shape
        if len(shape) != 4 or not shape[1] or shape[0] != ours.shape[0] or shape[2:] != ours.shape[2:]:
            return False
        groups, rest = divmod(ours.shape[1], shape[1])
        return rest == 0 and groups > 0 and shape[0] % groups == 0

    def value(self, given: Mapping[str, Tensor], ours: Tensor) -> Tensor:
        groups = given[self.name].flatten(1).to(ours.dtype).chunk(ours.shape[1] // given[self.name].shape[1])
        return torch.block_diag(*groups).reshape(ours.shape)


@dataclass(frozen=True)
class Constant:
    """The code base has no such tensor: ours, full of this number, computes the same."""

    number: float
    names: tuple[str, ...] = ()

    def fits(self, given: Mapping[str, Tensor], ours: Tensor) -> bool:
        return True

    def value(self, given: Mapping[str, Tensor], ours: Tensor) -> Tensor:
        return torch.full(ours.shape, self.number, dtype=ours.dtype)


Rules = Sequence[tuple[str, str | Shared | Constant]]
"""A pattern of our names -> where the tensor comes from, a string meaning `Same`; names may refer to groups."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one code base names its tensors.

    `marker` is a pattern of a name that only its files have. `source` gives, for a network of ours, the function from
    our names to where their tensors come from, None for what that code base has no place for. `eps` is what stands
    under the root of the norm of that (our) name, None where the file alone knows. `input` is what the published
    networks take, None where that is not the layout's to say; `note` what else a user must know. `published` builds
    that code base's network nearest to ours, None where it has none of the kind; with it, weights can be exported.
    """

    marker: str
    source: Callable[[FaceNetwork], Callable[[str], Source | None]]
    eps: Callable[[str], float | None] = lambda _norm: None
    input: InputSpec | None = None
    note: str = ""
    published: Callable[[FaceNetwork], FaceNetwork | None] | None = None

    def sources(self, network: FaceNetwork) -> dict[str, Source]:
        """Our names -> where their tensors come from; names that the code base has no place for are left out."""
        source = self.source(network)
        found = ((name, source(name)) for name in network.state_dict())
        return {name: place for name, place in found if place is not None}


def units_per_stage(network: FaceNetwork) -> list[int]:
    """Numbers of units in the stages of a residual network, none for another network."""
    backbone = network.backbone
    if not isinstance(backbone, ResNetBackbone):
        return []
    return [len(stage) for stage in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4)]


def by_rules(rules: Rules) -> Callable[[str], Source | None]:
    """The function that the first fitting rule of each name makes."""

    def source(name: str) -> Source | None:
        for pattern, place in rules:
            match = re.fullmatch(pattern, name)
            if match:
                return _expand(match, place)
        return None

    return source


def _expand(match: re.Match[str], place: str | Shared | Constant) -> Source:
    if isinstance(place, str):
        return Same(match.expand(place))
    if isinstance(place, Shared):
        return Shared(match.expand(place.name))
    return place
