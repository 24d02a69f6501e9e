from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from faceprint.classifier import estimate
from faceprint.config import Config
from faceprint.errors import UserError
from faceprint.training.setup import build_trainer


def test_training_asks_before_it_builds(tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    free = estimate.free_bytes(torch.device("cpu"))
    assert free is None or free > 2**20
    assert build_trainer(tiny()).head_bytes == 6 * 16 * 4 * 3
    monkeypatch.setattr(estimate, "free_bytes", lambda device: 100)  # pyright: ignore
    with pytest.raises(UserError, match="6 identities need"):
        build_trainer(tiny())
