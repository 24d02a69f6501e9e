"""`python -m faceprint …`, in which rank 1 fails in its third step as FAULT says; once, where it is started again.

The monotonic time of the failure is left in the file FAILED_AT.
"""

import os
import runpy
import signal
import sys
import time
from pathlib import Path

import faceprint.training.loop as loop

healthy, steps = loop.update_weights, 0


def update_weights(*arguments):
    global steps
    steps += 1
    if steps == 3 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        Path(os.environ["FAILED_AT"]).write_text(str(time.monotonic()))
        if os.environ["FAULT"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("broken on purpose")
    healthy(*arguments)


loop.update_weights = update_weights
sys.argv[0] = "faceprint"
runpy.run_module("faceprint", run_name="__main__")
