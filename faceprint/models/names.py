"""Published names as expressions: a name says how to build the network, and this is the one place that reads it.

    [SE-][L]ResNet{depth}[output][_v{unit}]     SE-LResNet50E_v3, ResNet50D_v1, SE-ResNet152E_v3
    [SE-][L]ResNeXt{depth}[output][_v{unit}]    LResNeXt101E_v3
    [L]MobileNet[output]                        MobileNetD, LMobileNetE
    [SE-]Inception-ResNet[-v2][output]          Inception-ResNetAD, SE-Inception-ResNet-v2
    [SE]ResNet{depth}-IR                        SEResNet50-IR
    ResNet{depth}+{norm}[+ARGMAX]               ResNet50+SYNCSN+ARGMAX

Short names (r50, mbf, vit_t …) are rows of a table. Every name is sugar over a family and its options.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from faceprint.errors import UserError
from faceprint.models.inception_resnet import inception_resnet
from faceprint.models.mobilefacenet import mobilefacenet
from faceprint.models.mobilenet import mobilenet
from faceprint.models.network import FaceNetwork
from faceprint.models.norms import NORMS
from faceprint.models.outputs import OUTPUTS
from faceprint.models.resnet import BOTTLENECK_FROM, EPS_IRESNET, UNITS_PER_STAGE, resnet
from faceprint.models.units import UNITS
from faceprint.models.vit import vit
from faceprint.registry import Table, unknown

Expression = tuple[str, dict[str, Any]]
"""A family of networks and the options of its builder."""

_IRESNET = {"eps": EPS_IRESNET, "bottleneck": False}

SHORT_NAMES: dict[str, Expression] = {
    "r18": ("resnet", {"depth": 18, **_IRESNET}),
    "r34": ("resnet", {"depth": 34, **_IRESNET}),
    "r50": ("resnet", {"depth": 50, **_IRESNET}),
    "r100": ("resnet", {"depth": 100, **_IRESNET}),
    "r200": ("resnet", {"depth": 200, "units": (6, 26, 60, 6), **_IRESNET}),
    "r2060": ("resnet", {"depth": 2060, "recompute": True, **_IRESNET}),
    "mbf": ("mobilefacenet", {}),
    "mobilefacenet": ("mobilefacenet", {}),
    "mbf_large": ("mobilefacenet", {"blocks": (2, 8, 12, 4), "scale": 4}),
    "MobileFaceNet": ("mobilefacenet", {"scale": 1, "embedding_dim": 128}),
    "vit_t": ("vit", {"dim": 256}),
    "vit_s": ("vit", {}),
    "vit_b": ("vit", {"depth": 24, "recompute": True}),
    "vit_l": ("vit", {"dim": 768, "depth": 24, "drop_path": 0.05, "mask_ratio": 0.05, "recompute": True}),
    "vit_h": ("vit", {"dim": 1024, "depth": 48, "mask_ratio": 0.0, "recompute": True}),
}

_TABLE_2017 = [
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
    "Inception-ResNetAD",
    "SE-Inception-ResNet-v2",
    "MobileNetD",
    "LMobileNetD",
    "LMobileNetE",
    "LMobileNetF",
]
_TABLE_SN = [
    "ResNet100+SYNCSN",
    "ResNet100+SN",
    "ResNet100+BN",
    "ResNet50+SYNCSN",
    "ResNet50+SYNCSN+ARGMAX",
    "ResNet50+SN",
    "ResNet50+BN",
]
_TABLE_IR = ["ResNet50-IR", "SEResNet50-IR", "ResNet100-IR"]
PUBLISHED_NAMES = [*SHORT_NAMES, *_TABLE_2017, *_TABLE_SN, *_TABLE_IR]
"""Every name in the tables of the published systems."""

SHOW_NAMES = "`python -c 'import faceprint; print(*faceprint.list_models())'`"
"""What shows the published names; the families have the names of their files."""

FAMILIES: Table[Callable[..., FaceNetwork]] = Table(
    "network",
    [
        ("resnet", resnet),
        ("mobilefacenet", mobilefacenet),
        ("mobilenet", mobilenet),
        ("inception_resnet", inception_resnet),
        ("vit", vit),
    ],
)
"""Builders, which take keyword arguments only; `create_model` takes these names too."""


def parse_name(name: str) -> Expression:
    """Family and options of a published name. Raises `UserError` naming the part that is not known and the choices."""
    if name in SHORT_NAMES:
        return SHORT_NAMES[name]
    if name in FAMILIES:
        return name, {}
    for pattern, read in _GRAMMAR:
        match = re.fullmatch(pattern, name)
        if match:
            return read(name, match.groupdict())
    raise unknown("network", name, [*PUBLISHED_NAMES, *FAMILIES], SHOW_NAMES)


def _part(name: str, kind: str, given: str, allowed: list[str]) -> str:
    if given not in allowed:
        raise unknown(f"{kind} in the network name {name!r}:", given, allowed)
    return given


def _output(name: str, given: str | None, default: str) -> str:
    return _part(name, "output option", given or default, list(OUTPUTS))


def _has_se(name: str, parts: dict[str, str | None]) -> bool:
    return parts["se"] is not None and bool(_part(name, "prefix", parts["se"], ["SE"]))


def _resnet(name: str, parts: dict[str, str | None]) -> Expression:
    """A (SE-)(L)ResNet or ResNeXt of the 2017 tables."""
    depth = _part(name, "depth", str(parts["depth"]), [str(known) for known in UNITS_PER_STAGE])
    groups = 32 if parts["kind"] == "ResNeXt" else 1
    return "resnet", {
        "depth": int(depth),
        "unit": _part(name, "unit", parts["unit"] or "v3", list(UNITS)),
        "stem": "L" if parts["large"] else "7x7",
        "se": _has_se(name, parts),
        "groups": groups,
        "bottleneck": groups > 1 or int(depth) >= BOTTLENECK_FROM,
        "output": _output(name, parts["output"], "A"),
    }


def _mobilenet(name: str, parts: dict[str, str | None]) -> Expression:
    stem = "L" if parts["large"] else "s2"
    return "mobilenet", {"stem": stem, "output": _output(name, parts["output"], "A")}


def _inception_resnet(name: str, parts: dict[str, str | None]) -> Expression:
    return "inception_resnet", {"se": _has_se(name, parts), "output": _output(name, parts["output"], "AD")}


def _resnet_ir(name: str, parts: dict[str, str | None]) -> Expression:
    """(SE)ResNet-IR of the 2020 system: LResNet…E_v3 with basic units."""
    depth = _part(name, "depth", str(parts["depth"]), [str(known) for known in UNITS_PER_STAGE])
    return "resnet", {"depth": int(depth), "bottleneck": False, "se": parts["se"] is not None}


def _resnet_sn(name: str, parts: dict[str, str | None]) -> Expression:
    """ResNet of the Switchable-Normalisation system: PReLU after the sum too, He-normal weights."""
    depth = _part(name, "depth", str(parts["depth"]), [str(known) for known in UNITS_PER_STAGE])
    norm = _part(name, "norm", str(parts["norm"]), [known.upper() for known in NORMS]).lower()
    options = {"depth": int(depth), "bottleneck": False, "post_activation": True, "init": "he", "norm": norm}
    if parts["choice"] is None:
        return "resnet", options
    _part(name, "choice", parts["choice"], ["ARGMAX"])
    if norm not in ("sn", "syncsn"):
        raise UserError(f"network name {name!r}: ARGMAX follows SN or SYNCSN only")
    return "resnet", {**options, "norm_options": {"argmax": True}}


_GRAMMAR: list[tuple[str, Callable[[str, dict[str, str | None]], Expression]]] = [
    (
        r"((?P<se>\w+)-)?(?P<large>L)?(?P<kind>ResNet|ResNeXt)(?P<depth>\d+)(?P<output>[A-Z]+)?(_(?P<unit>\w+))?",
        _resnet,
    ),
    (r"(?P<large>L)?MobileNet(?P<output>[A-Z]+)?", _mobilenet),
    (r"((?P<se>\w+)-)?Inception-ResNet(-v2)?(?P<output>[A-Z]+)?", _inception_resnet),
    (r"(?P<se>SE)?ResNet(?P<depth>\d+)-IR", _resnet_ir),
    (r"ResNet(?P<depth>\d+)\+(?P<norm>\w+)(\+(?P<choice>\w+))?", _resnet_sn),
]
