from __future__ import annotations

import pytest
import torch

from faceprint.errors import UserError
from faceprint.models import create_model, list_models
from faceprint.models.names import parse_name

# Copied by hand from the four documents' tables.
SN_TABLE = [
    "ResNet100+SYNCSN",
    "ResNet100+SN",
    "ResNet100+BN",
    "ResNet50+SYNCSN",
    "ResNet50+SYNCSN+ARGMAX",
    "ResNet50+SN",
    "ResNet50+BN",
]
ARCFACE_TABLE = ["r18", "r34", "r50", "r100", "mobilefacenet", "r200", "r2060", "mbf"]
IR_TABLE = ["ResNet50-IR", "SEResNet50-IR", "ResNet100-IR"]
TABLE_2017 = [
    "ResNet50D_v1",
    "SE-ResNet50A_v1",
    "SE-ResNet50B_v1",
    "SE-ResNet50C_v1",
    "SE-ResNet50D_v1",
    "SE-ResNet50E_v1",
    "SE-ResNet50F_v1",
    "SE-LResNet50C_v1",
    "SE-LResNet50D_v1",
    "SE-LResNet50E_v1",
    "SE-LResNet50A_v3",
    "SE-LResNet50D_v3",
    "SE-LResNet50E_v3",
    "LResNet50E_v3",
    "SE-LResNet50F_v3",
    "SE-LResNet50G_v3",
    "SE-ResNet101D_v3",
    "SE-ResNet101E_v3",
    "SE-ResNet152E_v3",
    "LResNeXt101E_v3",
]


def test_every_residual_network_of_the_tables_is_listed() -> None:
    assert set(SN_TABLE + ARCFACE_TABLE + IR_TABLE + TABLE_2017) <= set(list_models())
    assert list_models("*+SYNCSN*") == ["ResNet100+SYNCSN", "ResNet50+SYNCSN", "ResNet50+SYNCSN+ARGMAX"]


def conv(cin: int, cout: int, kernel: int, groups: int = 1) -> int:
    return cin // groups * cout * kernel * kernel


def counted(
    units: list[int],
    unit: str,
    output: str,
    *,
    large: bool,
    se: bool,
    bottleneck: bool,
    groups: int = 1,
    dim: int = 512,
) -> int:
    """Parameters of a 2017 residual network, letter by letter from the definition of its unit."""
    widths = (256, 512, 1024, 2048) if bottleneck else (64, 128, 256, 512)
    total = conv(3, 64, 3 if large else 7) + 2 * 64 + 64
    cin = 64
    for number, width in zip(units, widths, strict=True):
        inner = width // (4 if groups == 1 else 2)
        for index in range(number):
            if bottleneck:
                convs = [(cin, inner, 1, 1), (inner, inner, 3, groups), (inner, width, 1, 1)]
                letters = {"v1": "CBACBACB", "v2": "BACBACBAC", "v3": "BCBACBACB"}[unit]
            else:
                convs = [(cin, width, 3, 1), (width, width, 3, 1)]
                letters = {"v1": "CBACB", "v2": "BACBAC", "v3": "BCBACB"}[unit]
            channels = cin
            for letter in letters:
                if letter == "C":
                    this = convs.pop(0)
                    total, channels = total + conv(*this), this[1]
                else:
                    total += {"B": 2, "A": 1}[letter] * channels
            total += width if unit == "v1" else 0  # the activation after the sum
            if se:
                total += width * (width // 16) * 2 + width // 16 + width + width // 16
            if index == 0:
                total += conv(cin, width, 1) + (0 if unit == "v2" else 2 * width)
            cin = width
    side = 7 if large else 4
    flat = 2 * cin + cin * side * side * dim + dim + 2 * dim
    pooled = 3 * cin
    fc = cin * dim + dim
    return (
        total
        + {
            "A": pooled,
            "B": pooled + fc,
            "C": pooled + fc + 2 * dim,
            "D": pooled + fc + 3 * dim,
            "E": flat,
            "F": flat + cin,
            "G": pooled + fc,
        }[output]
    )


UNITS = {50: [3, 4, 14, 3], 101: [3, 4, 23, 3], 152: [3, 8, 36, 3]}


@pytest.mark.parametrize("name", [*TABLE_2017, "LResNet50E_v2", "ResNet101A_v2", "SE-ResNet101B_v1"])
def test_parameters_follow_from_the_definition(name: str) -> None:
    with torch.device("meta"):
        network = create_model(name)
    core, unit = name.rsplit("_", 1)
    output = core[-1]
    depth = int("".join(letter for letter in core if letter.isdigit()))
    expected = counted(
        UNITS[depth],
        unit,
        output,
        large="LRes" in name,
        se=name.startswith("SE-"),
        bottleneck=depth > 100,
        groups=32 if "NeXt" in name else 1,
    )
    assert sum(weight.numel() for weight in network.parameters()) == expected
    assert network.embedding_dim == ((2048 if depth > 100 else 512) if output == "A" else 512)


def test_the_switchable_norm_system_shares_one_slope_a_unit() -> None:
    with torch.device("meta"):
        ours, plain = create_model("ResNet50+BN"), create_model("r50")
    slopes = sum(weight.numel() for name, weight in plain.named_parameters() if "prelu" in name)
    count = [sum(weight.numel() for weight in network.parameters()) for network in (ours, plain)]
    assert count[0] == count[1] - slopes + 25  # the stem and 24 units


def test_names_say_what_options_say() -> None:
    with torch.device("meta"):
        named = create_model("SE-LResNet50E_v3")
        composed = create_model("resnet", depth=50, unit="v3", stem="L", se=True, output="E")
    assert named.state_dict().keys() == composed.state_dict().keys()
    assert parse_name("r200")[1]["units"] == (6, 26, 60, 6)


def test_options_win_over_the_name() -> None:
    with torch.device("meta"):
        network = create_model("r50", units=(1, 1, 1, 1), norm="gn", embedding_dim=8)
    assert len([name for name in network.state_dict() if name.endswith("conv1.weight")]) == 5
    assert not [name for name in network.state_dict() if "running" in name and "features" not in name]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SE-LResNet51E_v3", r"unknown depth in the network name 'SE-LResNet51E_v3': '51' .* allowed: 18, 34"),
        ("LResNet50Q_v3", "unknown output option in the network name .* 'Q'"),
        ("LResNet50E_v4", r"unknown unit .* 'v4' \(nearest: 'v3'\); allowed: v1, v2, v3"),
        ("ResNet50+SYNSN", r"unknown norm .*'SYNSN' \(nearest: 'SYNCSN'\)"),
        ("ResNet50+BN+ARGMAX", "ARGMAX follows SN or SYNCSN"),
        ("ResNet50+SYNCSN+ARGMIN", r"unknown choice .*'ARGMIN' \(nearest: 'ARGMAX'\); allowed: ARGMAX"),
        ("SX-LResNet50E_v3", r"unknown prefix .*'SX' .*allowed: SE"),
        ("SX-Inception-ResNet-v2", "unknown prefix .*'SX'"),
        ("ResNet51-IR", "unknown depth"),
        ("resnet500", "unknown network 'resnet500'"),
        ("", "unknown network ''"),
    ],
)
def test_an_unknown_part_names_itself_and_the_choices(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        create_model(name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stem": "S"}, "unknown stem 'S'"),
        ({"init": "zero"}, "unknown init"),
        ({"units": (1, 2, 3)}, "give four numbers"),
        ({"groups": 32}, "needs bottleneck"),
        ({"depth": 51}, "unknown depth 51"),
        ({"unit": "v5"}, "unknown unit"),
        ({"norm_options": {"stat_grup": 2}}, r"unknown option of norm 'bn' 'stat_grup' \(nearest: 'stat_group'\)"),
        ({"norm_options": {"stat_group": 0}}, "at least 1"),
        ({"output": "A", "embedding_dim": 128}, "output option 'A' has no layer to change the size"),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        create_model("resnet", **options)  # pyright: ignore
