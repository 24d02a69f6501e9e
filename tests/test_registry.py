from __future__ import annotations

import pytest

from faceprint.errors import UserError
from faceprint.registry import Table


def test_unknown_name_says_the_nearest_and_all_choices() -> None:
    table = Table("margin", [("arcface", 1), ("cosface", 2)])
    with pytest.raises(UserError, match=r"unknown margin 'arcfce' \(nearest: 'arcface'\); allowed: arcface, cosface"):
        table["arcfce"]
    with pytest.raises(UserError, match=r"^unknown margin 'zzz'; allowed"):
        table["zzz"]


def test_a_name_given_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="'a' is registered twice"):
        Table("row", [("a", 1), ("a", 2)])


def test_matching_is_a_shell_pattern() -> None:
    table = Table("network", [("r18", 1), ("r50", 2), ("mbf", 3)])
    assert table.matching("r*") == ["r18", "r50"]
    assert list(table) == ["r18", "r50", "mbf"]
