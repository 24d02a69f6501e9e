"""Writes docs/reliability.md from what tests/faults and tests/multiprocess saw.

FACEPRINT_RELIABILITY_JSON=seen.jsonl python -m pytest tests/faults tests/multiprocess
python docs/generate_reliability.py seen.jsonl
"""

from __future__ import annotations

import json
import os
import sys
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

HEAD = """# What a training survives

Seen on {day}, torch {torch}, {cores} cores, without a GPU, by

```sh
FACEPRINT_RELIABILITY_JSON=seen.jsonl python -m pytest tests/faults tests/multiprocess
python docs/generate_reliability.py seen.jsonl
```

Each row is what one test saw, and is there only because the test passed. A status is the exit status of the command:
0 done, 1 failed, 2 a mistake that the message tells how to mend, 75 stopped as asked with a checkpoint saved. Seconds
are those of a machine that did other things at the same time. A difference of losses is the largest of any step, as a
share of the loss.
{gaps}"""
TABLE = """
## {about}

| what happened | what was seen |
|---|---|
{rows}
"""


def latest(lines: list[str]) -> list[dict[str, Any]]:
    """What each test saw when it ran last, in the order of tests; a test that saw nothing stands for itself."""
    notes = [json.loads(line) for line in lines]
    newest = {(note["test"], note["what"]): note for note in notes}
    tests_with_figures = {test for (test, _), note in newest.items() if note["seen"]}
    kept = [note for (test, _), note in newest.items() if note["seen"] or test not in tests_with_figures]
    return sorted(kept, key=lambda note: (module(note), note["what"]))


def module(note: dict[str, Any]) -> str:
    return note["test"].partition("::")[0]


def table(notes: list[dict[str, Any]]) -> str:
    """The rows of one module of tests, under what it says of itself."""
    return TABLE.format(about=notes[-1]["about"].rstrip("."), rows="\n".join(map(row, notes)))


def row(note: dict[str, Any]) -> str:
    figures = "; ".join(f"{name.replace('_', ' ')}: {said(value)}" for name, value in note["seen"].items())
    return f"| {escaped(note['what'])} | {escaped(figures)} |"


def said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items())  # pyright: ignore
    if isinstance(value, list):
        return ", ".join(map(str, value))  # pyright: ignore
    return str(value)


def escaped(text: str) -> str:
    """As it reads in a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def page(lines: list[str]) -> str:
    notes = latest(lines)
    empty = [note["test"] for note in notes if not note["seen"]]
    gaps = f"\nNot seen, as the test failed or was skipped: {', '.join(empty)}.\n" if empty else ""
    head = HEAD.format(
        day=date.today().isoformat(), torch=torch.__version__.split("+")[0], cores=os.cpu_count(), gaps=gaps
    )
    full = [note for note in notes if note["seen"]]
    return head + "".join(table(list(group)) for _, group in groupby(full, key=module))


def main() -> None:
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    (Path(__file__).parent / "reliability.md").write_text(page(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
