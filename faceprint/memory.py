"""How the process keeps memory."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -3, -4, -8

_KEEP = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**26))
# What glibc's own adjustment arrives at in a process that allocates and frees large blocks.
_USUAL = ((_M_MMAP_MAX, 65536), (_M_MMAP_THRESHOLD, 2**25), (_M_TRIM_THRESHOLD, 2**26), (_M_TOP_PAD, 2**17))


def keep_freed_memory(keep: bool = True) -> bool:
    """Let the process keep the memory that it frees, for its next allocation; True where that could be set.

    By default glibc gives every large block back to the system, so that a training step on the CPU faults in each of
    its feature maps anew, page by page, zeroed: measured here, that was half of a MobileFaceNet's step. The process
    stays at its peak size instead. `keep` False goes back to the usual way. Elsewhere than on
    Linux with glibc nothing is changed.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(name, value) == 1 for name, value in (_KEEP if keep else _USUAL))


def free_memory() -> int | None:
    """Bytes of main memory that a process may still take; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    available = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(available[0]) * 1024 if available else None
