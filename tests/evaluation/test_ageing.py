"""Misses by elapsed years against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from faceprint.errors import UserError
from faceprint.evaluation.ageing import fnmr_by_years


def test_bins_by_hand() -> None:
    scores = [0.9, 0.1, 0.5, 0.8, 0.2, 0.9]
    years = [0, 1.99, 2, 3, 30, 4]
    found = fnmr_by_years(scores, years, [0, 0, 1, 2, 2, 3], 0.5, edges=(0, 2, 4, 6, np.inf), draws=50)
    assert [(row.mated, row.subjects, row.false_non_matches, row.fnmr) for row in found] == [
        (2, 1, 1, 0.5),
        (2, 2, 1, 0.5),
        (1, 1, 0, 0.0),
        (1, 1, 1, 1.0),
    ]
    assert (found[0].low, found[0].high) == (0.5, 0.5)  # one person, whoever else is drawn
    assert (found[1].low, found[1].high) == (0.0, 1.0)


def test_an_empty_bin_has_no_rate() -> None:
    empty = fnmr_by_years([0.9, 0.9], [0, 0], [0, 1], 0.5, edges=(0, 2, 4))[1]
    assert (empty.mated, empty.fnmr, empty.low, empty.high) == (0, None, None, None)


def test_the_band_is_as_wide_as_theory_says() -> None:
    """Of 300 subjects with ten pairs, all right or all wrong, the 1 to 99 % band is +- 2.326 standard errors."""
    wrong = np.repeat(np.arange(300) < 60, 10)
    (row,) = fnmr_by_years(np.where(wrong, 0.1, 0.9), np.ones(3000), np.repeat(np.arange(300), 10), 0.5, edges=(0, 9))
    assert row.fnmr == 0.2
    width = 2.326 * np.sqrt(0.2 * 0.8 / 300)
    assert (row.low, row.high) == (pytest.approx(0.2 - width, abs=0.01), pytest.approx(0.2 + width, abs=0.01))


@pytest.mark.parametrize(
    ("years", "edges"), [([-1], (0, 2)), ([np.nan], (0, 2)), ([2], (0, 2)), ([1], (0, 0, 2)), ([1], (0,))]
)
def test_refused(years: list[float], edges: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="years"):
        fnmr_by_years([0.5], years, [0], 0.5, edges=edges)
