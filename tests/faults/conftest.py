from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def outcome(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Notes what a test saw in the file that FACEPRINT_RELIABILITY_JSON names, for docs/reliability.md."""

    def note(**seen: Any) -> None:
        file = os.environ.get("FACEPRINT_RELIABILITY_JSON")
        if file:
            with Path(file).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"test": request.node.name, **seen}) + "\n")

    return note
