"""What a layout of published weights is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from faceprint.data.pixels import InputSpec
from faceprint.models.network import FaceNetwork
from faceprint.models.resnet import ResNetBackbone


@dataclass(frozen=True)
class Shared:
    """The tensor `name` of the file has one number, which all channels of ours take."""

    name: str


@dataclass(frozen=True)
class Constant:
    """The code base has no such tensor: ours, full of this number, computes the same."""

    value: float


Source = str | Shared | Constant
"""Where a tensor of ours comes from; a string is its name in the file."""

Rules = Sequence[tuple[str, Source]]
"""A pattern of our names -> where the tensor comes from; names may refer to the pattern's groups."""


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


def _expand(match: re.Match[str], place: Source) -> Source:
    if isinstance(place, str):
        return match.expand(place)
    return Shared(match.expand(place.name)) if isinstance(place, Shared) else place
