"""Layouts with one list `body` of units: those of AdaFace and CVLface, and of InsightFace_Pytorch.

Sources: github.com/mk-minchul/AdaFace, github.com/mk-minchul/CVLface (models/iresnet), github.com/TreB1eN/
InsightFace_Pytorch (model.py). Units of all stages are numbered through, and the layers in a unit too. Where the
width does not change, the shortcut has no weights: build ours with `pool_shortcut=True`. The gate of their SE has
ReLU and no biases, for which PReLU with slope 0 and biases 0 stand here. IR-101 has the units of depth 100. AdaFace's
code and InsightFace_Pytorch's feed BGR.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import accumulate

from faceprint.data.pixels import InputSpec
from faceprint.models.network import FaceNetwork
from faceprint.models.resnet import EPS_IRESNET
from faceprint.models.weights.layout import Constant, Layout, Rules, Source, by_rules, units_per_stage

_BGR = InputSpec(colour="bgr")
_STEM = {"conv1": 0, "bn1": 1, "prelu": 2}


def _body(ends: Rules, unit: Rules) -> Callable[[FaceNetwork], Callable[[str], Source | None]]:
    """`ends` are rules for the output; `unit` those for names such as "3.bn1.weight", 3 being the unit's number."""
    from_ends, from_unit = by_rules([*_numbered("backbone", "input_layer", _STEM), *ends]), by_rules(unit)

    def source(network: FaceNetwork) -> Callable[[str], Source | None]:
        before = list(accumulate(units_per_stage(network), initial=0))

        def place(name: str) -> Source | None:
            match = re.fullmatch(r"backbone\.layer(\d)\.(\d+)\.(.+)", name)
            return from_unit(f"{before[int(match[1]) - 1] + int(match[2])}.{match[3]}") if match else from_ends(name)

        return place

    return source


def _numbered(ours: str, theirs: str, places: Mapping[str, int]) -> Rules:
    """Rules for layers that have names here and numbers there."""
    return [(rf"{ours}\.{name}\.(\w+)", rf"{theirs}.{number}.\1") for name, number in places.items()]


def _unit(places: Mapping[str, int], excite: str) -> Rules:
    """Rules for a unit: `places` of its layers, `excite` the name of its SE block."""
    numbered = [(rf"(\d+)\.{name}\.(\w+)", rf"body.\1.res_layer.{number}.\2") for name, number in places.items()]
    return [
        *numbered,
        (r"(\d+)\.downsample\.([01]\.\w+)", r"body.\1.shortcut_layer.\2"),
        (r"(\d+)\.se\.gate\.1\.weight", rf"body.\1.res_layer.{excite}.fc1.weight"),
        (r"(\d+)\.se\.gate\.3\.weight", rf"body.\1.res_layer.{excite}.fc2.weight"),
        (r"(\d+)\.se\.gate\.(1\.bias|2\.weight|3\.bias)", Constant(0.0)),
    ]


_OUTPUT = {"norm": 0, "fc": 3}
# A bottleneck's layers have other names from the fourth on than a basic unit's, and no place is taken twice.
_CVLFACE_UNIT = {
    "bn1": 0, "conv1": 1, "bn2": 2, "prelu": 3, "prelu1": 3, "conv2": 4, "bn3": 5, "prelu2": 6, "conv3": 7, "bn4": 8,
}  # fmt: skip
_INSIGHTFACE_PYTORCH_UNIT = {"bn1": 0, "conv1": 1, "prelu": 2, "conv2": 3, "bn3": 4}

CVLFACE = Layout(
    marker=r"body\.0\.res_layer\.2\.running_mean",
    source=_body(
        [
            *_numbered("output", "output_layer", _OUTPUT),
            (r"output\.features\.weight", Constant(1.0)),
            (r"output\.features\.bias", Constant(0.0)),
            (r"output\.features\.(\w+)", r"output_layer.4.\1"),
        ],
        _unit(_CVLFACE_UNIT, "se_block"),
    ),
    eps=lambda _norm: EPS_IRESNET,
    input=_BGR,
    note="AdaFace's own checkpoints take BGR; those trained in CVLface what its configuration calls color_space",
)

# Between the first convolution and the PReLU there is no norm: ours is given moments with which it changes nothing
# in evaluation. In training it is a norm again.
_NO_NORM: Rules = [
    (r"\d+\.bn2\.(weight|running_var)", Constant(1.0)),
    (r"\d+\.bn2\.(bias|running_mean|num_batches_tracked)", Constant(0.0)),
]

INSIGHTFACE_PYTORCH = Layout(
    marker=r"body\.0\.res_layer\.4\.running_mean",
    source=_body(
        _numbered("output", "output_layer", {**_OUTPUT, "features": 4}),
        [*_NO_NORM, *_unit(_INSIGHTFACE_PYTORCH_UNIT, "5")],
    ),
    eps=lambda norm: 0.0 if re.fullmatch(r"backbone\.layer\d\.\d+\.bn2", norm) else EPS_IRESNET,
    input=_BGR,
    note=(
        "its code trains on records decoded by OpenCV, BGR; units have no norm after their first convolution, so ours"
        " are set to change nothing there in evaluation"
    ),
)
