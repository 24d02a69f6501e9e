"""torchrun for `--processes N`: signals reach every process, their exit status is ours, failures are named by rank."""

from __future__ import annotations

import os
import sys

from faceprint.cli.output import err
from faceprint.errors import UserError

OWN_STATUS = (2, 75)
"""Exit statuses whose process has said all there is to say: a user's mistake, and a training that was asked to stop."""


def start_processes(number: int) -> None:
    """Become torchrun with `number` processes of this very command. Raises `UserError` inside of another launcher."""
    if "WORLD_SIZE" in os.environ:
        raise UserError(
            "--processes starts processes, but a launcher such as torchrun has done so already; leave it out"
        )
    rest = [*sys.argv[1:]]
    at = next(place for place, word in enumerate(rest) if word.split("=")[0] == "--processes")
    del rest[at : at + (1 if "=" in rest[at] else 2)]
    # SIGUSR1 too: schedulers announce by it that the machine will be taken away.
    for name in ("PET_SIGNALS_TO_HANDLE", "TORCHELASTIC_SIGNALS_TO_HANDLE"):  # newer and older releases of torch
        os.environ.setdefault(name, "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1")
    torchrun = ["--standalone", f"--nproc-per-node={number}", "-m", "faceprint", *rest]
    os.execv(sys.executable, [sys.executable, "-c", "from faceprint.cli.launch import main; main()", *torchrun])


def main() -> None:
    """torchrun with the arguments of this process; exits as `OWN_STATUS` of its processes, or with 1."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    from faceprint.distributed import LAUNCHER_PID

    os.environ[LAUNCHER_PID] = str(os.getpid())
    try:
        torchrun(sys.argv[1:])
    except ChildFailedError as error:
        codes = {failure.exitcode for failure in error.failures.values()}
        if codes <= {*OWN_STATUS}:
            sys.exit(min(codes))
        err.print(str(error), markup=False)
        sys.exit(1)
    except SignalException:
        sys.exit(75)  # every process got the signal, and half a minute to save a checkpoint
