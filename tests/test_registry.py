from __future__ import annotations

import pytest

from faceprint.errors import UserError
from faceprint.registry import MOST_LISTED, Table, nearest, unknown


def test_unknown_name_says_the_nearest_and_all_choices() -> None:
    table = Table("margin", [("arcface", 1), ("cosface", 2)])
    with pytest.raises(UserError, match=r"unknown margin 'arcfce' \(nearest: 'arcface'\); allowed: arcface, cosface"):
        table["arcfce"]
    with pytest.raises(UserError, match=r"^unknown margin 'zzz'; allowed"):
        table["zzz"]


def test_of_many_names_the_nearest_are_shown_and_what_shows_them_all() -> None:
    names = [f"sets/face{number}" for number in range(MOST_LISTED + 1)]
    message = str(unknown("recipe", "face12", names, "`faceprint zoo`"))
    assert message.startswith("unknown recipe 'face12' (nearest: 'sets/face12', ")
    assert message.endswith("); `faceprint zoo` shows them all")
    assert message.count("sets/") == 5
    assert (
        str(unknown("recipe", "zzz", names, "`faceprint zoo`"))
        == "unknown recipe 'zzz'; `faceprint zoo` shows them all"
    )
    for listed in (unknown("recipe", "face12", names), unknown("recipe", "face12", names[:-1], "`faceprint zoo`")):
        assert "nearest: 'sets/face12'); allowed: sets/face0, sets/face1, " in str(listed)


def test_nearest_reads_names_in_folders_by_their_last_part_too() -> None:
    names = ["lfw", "torch/r50", "torch/r100", "sn/r50"]
    assert nearest("R50", names, 2) == ["torch/r50", "sn/r50"]
    assert nearest("torch/r5", names, 1) == ["torch/r50"]
    assert nearest("r50", names, 4, likeness=1.0) == ["torch/r50", "sn/r50"]
    assert nearest("quick", names, 4) == []


def test_a_name_given_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="'a' is registered twice"):
        Table("row", [("a", 1), ("a", 2)])


def test_matching_is_a_shell_pattern() -> None:
    table = Table("network", [("r18", 1), ("r50", 2), ("mbf", 3)])
    assert table.matching("r*") == ["r18", "r50"]
    assert list(table) == ["r18", "r50", "mbf"]
