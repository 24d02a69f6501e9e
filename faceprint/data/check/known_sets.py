"""How many images and identities the public training sets have, as published."""

from __future__ import annotations

from typing import NamedTuple

TOLERANCE = 0.02
"""A set whose two counts differ by less than this from the published ones is taken for a copy of that set."""


class KnownSet(NamedTuple):
    """A public set; `source` says where its counts are printed."""

    name: str
    images: int
    identities: int
    source: str


_ARCFACE_TORCH = "github.com/deepinsight/insightface, recognition/arcface_torch/configs"

KNOWN_SETS = [
    KnownSet("CASIA-WebFace", 494_414, 10_575, "Yi et al., arXiv 1411.7923"),
    KnownSet("CASIA-WebFace, cleaned", 453_580, 10_575, "github.com/QuasarLight/Pytorch_Face_Recognition, README"),
    KnownSet("MS-Celeb-1M, cleaned", 3_923_399, 86_876, "github.com/QuasarLight/Pytorch_Face_Recognition, README"),
    KnownSet("VGGFace2, training part", 3_141_890, 8_631, "github.com/deepinsight/insightface, README (2017)"),
    KnownSet("MS1MV2", 5_822_653, 85_742, f"{_ARCFACE_TORCH}/ms1mv2_*"),
    KnownSet("MS1MV3", 5_179_510, 93_431, f"{_ARCFACE_TORCH}/ms1mv3_*"),
    KnownSet("Glint360K", 17_091_657, 360_232, f"{_ARCFACE_TORCH}/glint360k_*"),
    KnownSet("WebFace4M", 4_235_242, 205_990, f"{_ARCFACE_TORCH}/wf4m_*"),
    KnownSet("WebFace12M", 12_720_066, 617_970, f"{_ARCFACE_TORCH}/wf12m_*"),
    KnownSet("WebFace42M", 42_474_557, 2_059_906, f"{_ARCFACE_TORCH}/wf42m_*"),
    KnownSet("LFW", 13_233, 5_749, "Huang et al., technical report 07-49, University of Massachusetts, 2007"),
]


def nearest_known(images: int, identities: int) -> KnownSet | None:
    """The public set that has nearly these counts, the nearest of several; None where none has."""
    candidates = [
        (abs(images / known.images - 1) + abs(identities / known.identities - 1), known)
        for known in KNOWN_SETS
        if abs(images / known.images - 1) < TOLERANCE and abs(identities / known.identities - 1) < TOLERANCE
    ]
    return min(candidates)[1] if candidates else None
