"""Writes docs/reliability.md from what tests/faults and tests/multiprocess saw.

FACEPRINT_RELIABILITY_JSON=seen.jsonl python -m pytest tests/faults tests/multiprocess
python docs/generate_reliability.py seen.jsonl
"""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

HEAD = """# What a training survives

Seen on {day}, torch {torch}, {cores} cores, without a GPU, by

```sh
FACEPRINT_RELIABILITY_JSON=seen.jsonl python -m pytest tests/faults tests/multiprocess
python docs/generate_reliability.py seen.jsonl
```

| what happened | what was seen |
|---|---|
"""


def row(seen: dict[str, Any]) -> str:
    figures = {name: value for name, value in seen.items() if name not in ("what", "test")}
    return f"| {seen['what']} | {'; '.join(f'{name}: {said(value)}' for name, value in figures.items())} |"


def said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items())  # pyright: ignore
    return str(value)


def main() -> None:
    import os

    import torch

    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    rows = sorted({row(json.loads(line)) for line in lines})
    head = HEAD.format(day=date.today().isoformat(), torch=torch.__version__.split("+")[0], cores=os.cpu_count())
    page = Path(__file__).parent / "reliability.md"
    page.write_text(head + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
