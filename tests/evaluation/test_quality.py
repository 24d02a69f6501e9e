"""Discard curves against all orders of ties; stability against loops; files in CR-FIQA's layout."""

from __future__ import annotations

import doctest
from itertools import permutations
from math import exp
from pathlib import Path

import numpy as np
import pytest

from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.evaluation import quality
from faceprint.evaluation.image_quality import dropout_stability, read_qualities
from faceprint.evaluation.quality import discard_curve, pair_quality, stability


def test_ties_are_the_mean_over_all_orders() -> None:
    scores = np.array([0.1, 0.9, 0.2, 0.8, 0.3, 0.7])
    ranks = np.array([2, 1, 2, 2, 3, 3])
    curves = []
    for order in permutations(range(6)):
        if list(ranks[list(order)]) == sorted(ranks):
            misses = scores[list(order)] <= 0.5
            curves.append([misses[k:].mean() for k in range(6)])
    found = discard_curve(scores, ranks, 0.5)
    np.testing.assert_allclose(found.fnmr, np.mean(curves, axis=0), atol=1e-12)


def test_area_is_that_of_the_steps() -> None:
    curve = discard_curve([0.1, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], range(10), 0.5)
    assert curve.fnmr.tolist() == [0.2, 1 / 9, 1 / 8, *[0.0] * 7]
    assert curve.partial_area(0.2) == pytest.approx(0.1 * 0.2 + 0.1 / 9)
    assert curve.partial_area(0.25) == pytest.approx(0.1 * 0.2 + 0.1 / 9 + 0.05 / 8)
    assert [curve.at(x) for x in (0, 0.09, 0.1, 0.3)] == [0.2, 0.2, 1 / 9, 0.0]
    for wrong in (-0.1, 1.0):
        with pytest.raises(UserError):
            curve.at(wrong)


def test_perfect_and_useless_quality() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(1000)
    perfect = discard_curve(scores, scores, 0.1)
    assert perfect.at(0.1 + 0.02) == 0
    flat = discard_curve(scores, np.ones(1000), 0.1)
    np.testing.assert_allclose(flat.fnmr, flat.fnmr[0])


def test_a_pair_is_as_good_as_its_worse_image() -> None:
    assert pair_quality([3, 1, 2], [0, 0, 1], [1, 2, 2]).tolist() == [1, 2, 1]
    with pytest.raises(UserError, match="image 1 has a quality"):
        pair_quality([3, np.nan], [0], [1])


def test_stability_is_the_formula() -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 3, 4))
    for image in range(3):
        distances = [
            float(np.sqrt(sum((a - b) ** 2 for a, b in zip(vectors[i, image], vectors[j, image], strict=True))))
            for i in range(5)
            for j in range(i + 1, 5)
        ]
        assert stability(vectors)[image] == pytest.approx(2 / (1 + exp(2 / 25 * sum(distances))))
    assert stability(np.ones((3, 2, 4))).tolist() == [1.0, 1.0]
    with pytest.raises(UserError, match="at least 2 passes"):
        stability(np.ones((1, 2, 4)))
    with pytest.raises(UserError, match="passes is 0"):
        dropout_stability(lambda batch: batch, [], InputSpec(), passes=0)


def test_files_of_qualities(tmp_path: Path) -> None:
    file = tmp_path / "quality.txt"
    file.write_text("/data/x/Ann/Ann_0001.png 2.5\nBo/Bo 2.jpg\t-1e-1\n\n/data/x/Cy/1.jpg 0\n/data/x/Di/1.jpg 9\n")
    names = ["crops/Di/1.png", "crops/Ann/Ann_0001.jpg", "Bo/Bo 2.jpg"]
    assert read_qualities(file, names).tolist() == [9, 2.5, -0.1]
    flat = tmp_path / "flat.txt"
    flat.write_text("1.jpg 0.1\n2.jpg 0.2\n")
    assert read_qualities(flat, ["a/2.jpg", "a/1.jpg"]).tolist() == [0.2, 0.1]
    with pytest.raises(UserError, match=r"no one quality for 1 of 1 images, the first b/3.jpg"):
        read_qualities(flat, ["b/3.jpg"])
    for line in ("1.jpg", "1.jpg nan", "1.jpg x", " 3"):
        flat.write_text(f"1.jpg 1\n{line}\n")
        with pytest.raises(UserError, match=r"flat\.txt:2: expected 'path quality'"):
            read_qualities(flat, ["1.jpg"])


def test_examples() -> None:
    assert doctest.testmod(quality).failed == 0
