"""A file's tensors beside a network's: which make which, and which are left over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from faceprint.models.network import FaceNetwork
from faceprint.models.weights.checkpoint import Checkpoint
from faceprint.models.weights.layout import Source
from faceprint.models.weights.layouts import LAYOUTS, recognise


def is_counter(name: str) -> bool:
    """Whether it counts batches: files may lack it, and nothing that a network computes depends on it."""
    return name.endswith("num_batches_tracked")


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """`given`: the file's tensors by their names behind the `prefix` of wrappers; `outside`: names without it.

    `sources`: where those of the network's tensors, `state`, come from that the layout has a place for.
    """

    layout: str
    prefix: str
    given: Mapping[str, Tensor]
    outside: list[str]
    sources: Mapping[str, Source]
    state: Mapping[str, Tensor]

    def found(self) -> list[str]:
        """Our tensors for which the file has all that is needed."""
        return [name for name, source in self.sources.items() if all(need in self.given for need in source.names)]

    def fitting(self) -> list[str]:
        """Those of them that get the right shape."""
        return [name for name in self.found() if self.sources[name].fits(self.given, self.state[name])]

    def values(self) -> dict[str, Tensor]:
        """What fits, by our names, in our shapes and dtypes."""
        return {name: self.sources[name].value(self.given, self.state[name]) for name in self.fitting()}

    def missing(self) -> list[str]:
        """Our names that the layout has no place for, and names of the layout that the file lacks."""
        no_place = [name for name in self.state if name not in self.sources and not is_counter(name)]
        needs = dict.fromkeys(need for source in self.sources.values() for need in source.names)
        return [*no_place, *(need for need in needs if need not in self.given and not is_counter(need))]

    def unexpected(self) -> list[str]:
        """Names in the file that nothing of ours comes from."""
        needed = {need for source in self.sources.values() for need in source.names}
        return [name for name in self.given if name not in needed and not is_counter(name)]

    def reshaped(self) -> list[str]:
        """The file's tensors that have another shape than ours, with both."""
        fitting = set(self.fitting())
        return [self._shapes(name) for name in self.found() if name not in fitting]

    def _shapes(self, name: str) -> str:
        theirs = " and ".join(f"{need} {tuple(self.given[need].shape)}" for need in self.sources[name].names)
        return f"{theirs}, the network has {tuple(self.state[name].shape)}"


def pair(checkpoint: Checkpoint, network: FaceNetwork, path: object) -> Pairing:
    """Recognise the layout of `checkpoint` and find its places for `network`. Raises `UserError` for an unknown one."""
    layout, prefix = recognise(checkpoint.tensors, path)
    inside = [name for name in checkpoint.tensors if name.startswith(prefix)]
    return Pairing(
        layout=layout,
        prefix=prefix,
        given={name.removeprefix(prefix): checkpoint.tensors[name] for name in inside},
        outside=[name for name in checkpoint.tensors if not name.startswith(prefix)],
        sources=LAYOUTS[layout].sources(network),
        state=network.state_dict(),
    )
