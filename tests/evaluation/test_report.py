"""The table says what the result says; the picture is a picture of it."""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceprint.errors import UserError
from faceprint.evaluation.pairs import PairSet
from faceprint.evaluation.protocols import Evaluation, summarize
from faceprint.evaluation.report import DIFFERENT_COLOUR, SAME_COLOUR, plot_evaluation, table_rows


def evaluation(distance: float, pairs: int = 600, folds: int = 10) -> Evaluation:
    same = np.tile(np.repeat([True, False], pairs // folds // 2), folds)
    scores = np.clip(np.random.default_rng(0).normal(same * distance, 0.1), -1, 1)
    numbers = np.zeros(pairs, np.int64)
    fold = np.repeat(np.arange(folds), pairs // folds)
    pair_set = PairSet("pairs", [""] * pairs, lambda i: np.zeros((1, 1, 3), np.uint8), numbers, numbers, same, fold)
    return Evaluation(summarize(scores, pair_set), scores, same, pair_set)


def test_rows() -> None:
    result: dict[str, Any] = {
        "protocol": "pairs",
        "num_pairs": 6000,
        "num_same": 3000,
        "num_different": 3000,
        "num_images": 7701,
        "accuracy": 0.99496,
        "accuracy_std": 0.00372,
        "accuracy_rule": "10-fold, threshold from the other folds",
        "threshold": 0.31234,
        "tar_at_far": {"1e-2": 0.9953, "1e-3": 0.98},
        "false_accepts": {"1e-2": 30, "1e-3": 1},
        "eer": 0.00633,
        "auc": 0.998765,
    }
    expected = [
        ("accuracy", "99.50 % ± 0.37"),
        ("", "10-fold, threshold from the other folds"),
        ("threshold", "0.3123"),
        ("pairs", "3,000 same + 3,000 different"),
        ("images", "7,701"),
        ("TAR@FAR=1e-2", "99.53 %  (30 false accepts)"),
        ("TAR@FAR=1e-3", "98.00 %  (1 false accept)"),
        ("EER", "0.63 %"),
        ("AUC", "0.99877"),
    ]
    assert table_rows(result) == expected
    measured = {**result, "model": "m", "flip": False, "images_per_second": 1234.4}
    assert table_rows(measured) == [*expected, ("flip", "no"), ("images per second", "1,234")]
    assert table_rows({**result, "accuracy_std": None})[0] == ("accuracy", "99.50 %")


def colour_share(image: np.ndarray, colour: str) -> float:
    red_green_blue = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return float((np.abs(image.astype(int) - red_green_blue).max(axis=2) < 12).mean())


@pytest.mark.parametrize(("distance", "folds"), [(0.6, 10), (2.0, 10), (0.0, 1)])
def test_picture(tmp_path: Path, distance: float, folds: int) -> None:
    pytest.importorskip("matplotlib")
    plot_evaluation(evaluation(distance, folds=folds), tmp_path / "new" / "roc.png")
    image = cv2.imread(str(tmp_path / "new" / "roc.png"))[..., ::-1]
    height, width, _ = image.shape
    assert (height, width) == (690, 1650)
    roc, scores = image[:, : width // 2], image[:, width // 2 :]
    assert colour_share(roc, SAME_COLOUR) > 1e-4
    assert colour_share(roc, DIFFERENT_COLOUR) == 0
    assert colour_share(scores, SAME_COLOUR) > 1e-4
    assert colour_share(scores, DIFFERENT_COLOUR) > 1e-4
    assert os.listdir(tmp_path / "new") == ["roc.png"]


def test_picture_that_cannot_be_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        plot_evaluation(evaluation(0.6), tmp_path / "file" / "roc.png")


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r"pip install 'faceprint\[plot\]'"):
        plot_evaluation(evaluation(0.6), tmp_path / "roc.png")
    assert not os.listdir(tmp_path)
