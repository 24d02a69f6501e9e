"""Arrays in memory that several processes share."""

from __future__ import annotations

import ctypes
import math
import shutil
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


@dataclass(frozen=True)
class SharedArray:
    """A NumPy array that a process shares with those it starts. Made by `shared_array`.

    It can be handed to a process as an argument, by fork and by spawn; what one writes, all read. The memory has no
    name and ends with the last process that has it, however that ends.
    """

    memory: Any
    shape: tuple[int, ...]
    dtype: str

    @property
    def array(self) -> NDArray[Any]:
        """The memory itself, not a copy."""
        return np.frombuffer(self.memory, self.dtype, math.prod(self.shape)).reshape(self.shape)


def shared_memory_left() -> int | None:
    """Bytes that may still be shared: containers often allow little; None where there is no such limit."""
    folder = Path("/dev/shm")
    return shutil.disk_usage(folder).free if folder.is_dir() else None


def shared_array(context: BaseContext, shape: tuple[int, ...], dtype: DTypeLike) -> SharedArray:
    """Zeros of `shape`, for the processes that `context` starts."""
    kind = np.dtype(dtype)
    # RawArray takes /dev/shm where there is room, and an unlinked temporary file where a container allows little of it.
    memory = context.RawArray(ctypes.c_uint8, max(1, math.prod(shape) * kind.itemsize))
    return SharedArray(memory, shape, kind.str)
