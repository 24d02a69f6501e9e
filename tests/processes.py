"""Processes that a test starts."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch.multiprocessing as mp


def spawn(function: Callable[..., None], arguments: tuple[Any, ...], processes: int) -> None:
    """Call `function(rank, *arguments)` in each of so many processes; raises where one of them does.

    They end without taking the interpreter apart: a thread that torch has left over may then abort the process
    (pytorch issue 190489) when all that the test looks at is written. How a training ends is for test_leaving.py.
    """
    mp.spawn(_call, (function, *arguments), nprocs=processes)  # pyright: ignore[reportPrivateImportUsage]


def _call(rank: int, function: Callable[..., None], *arguments: Any) -> None:
    function(rank, *arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def free_ports(number: int) -> list[int]:
    """Ports of this machine that nobody has now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
