"""`python -m faceprint …` that leaves the file EVALUATING while it evaluates, so that a kill can be aimed at that."""

import os
import runpy
import sys
from pathlib import Path

from faceprint.training.run import Run

evaluate, mark = Run.evaluate, Path(os.environ["EVALUATING"])


def marked_evaluate(run):
    mark.touch()
    records = evaluate(run)
    mark.unlink(missing_ok=True)
    return records


if __name__ == "__main__":
    Run.evaluate = marked_evaluate
    sys.argv[0] = "faceprint"
    runpy.run_module("faceprint", run_name="__main__")
