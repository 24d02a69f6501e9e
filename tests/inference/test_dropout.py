"""Dropout left on: embeddings vary, and nothing else of the network does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from faceprint.errors import UserError
from faceprint.inference import dropout


class Network(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.norm, self.dropout, self.flatten = nn.BatchNorm2d(3), nn.Dropout(p), nn.Flatten()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.flatten(self.dropout(self.norm(images)))


def features(p: float, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> dropout.Callable:
    monkeypatch.setattr(dropout, "load_model", lambda _: (Network(p), None))
    return dropout.dropout_features("run", "cpu", seed)


def test_only_dropout_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    run = features(0.25, monkeypatch)
    batch = np.full((2, 3, 16, 16), 7, np.float32)
    first, second = run(batch), run(batch)
    assert (first != second).any()
    kept = first[first != 0]
    np.testing.assert_allclose(kept, 7 / 0.75, rtol=1e-4)  # running statistics, not those of the batch: 0 then
    assert np.mean(first == 0) == pytest.approx(0.25, abs=0.05)
    assert (features(0.25, monkeypatch)(batch) == first).all()


@pytest.mark.parametrize(
    ("model", "message"), [("run", "no dropout to vary"), ("a.onnx", "an ONNX file has no dropout")]
)
def test_refused(model: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropout, "load_model", lambda _: (Network(0.0), None))
    with pytest.raises(UserError, match=message):
        dropout.dropout_features(str(Path(model)))
