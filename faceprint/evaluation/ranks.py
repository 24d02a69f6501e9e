"""The world of processes, also where torch was never imported: then it is a world of one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol, TypeVar, cast

T = TypeVar("T")


class World(Protocol):
    """What evaluation needs of `faceprint.distributed`."""

    def rank(self) -> int: ...

    def world_size(self) -> int: ...

    def gather_objects(self, value: T) -> list[T]: ...

    def by_first_rank(self, function: Callable[[], T]) -> T: ...

    def together(self, function: Callable[[], T]) -> T: ...


class _Alone:
    def rank(self) -> int:
        return 0

    def world_size(self) -> int:
        return 1

    def gather_objects(self, value: T) -> list[T]:
        return [value]

    def by_first_rank(self, function: Callable[[], T]) -> T:
        return function()

    def together(self, function: Callable[[], T]) -> T:
        return function()


def current_world() -> World:
    """`faceprint.distributed`; a world of one without torch, which no process group can have been started without."""
    if "torch" not in sys.modules:
        return _Alone()
    from faceprint import distributed

    return cast("World", distributed)


def share_of(count: int, world: World) -> range:
    """This process's contiguous share of `count` things."""
    return range(count * world.rank() // world.world_size(), count * (world.rank() + 1) // world.world_size())
