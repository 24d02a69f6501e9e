"""Layout of the 2017 networks, by the names that ONNX files exported from MXNet keep.

Sources: the symbols fresnet, fmobilenet, finception_resnet_v2 and symbol_utils of github.com/deepinsight/insightface
(src/symbols), and the file face_recognition_sface_2021dec.onnx. The eps of norms and the preprocessing stand in the
graph. Units and stages are counted from 1. Layers of Inception-ResNet have no names there: MXNet numbers them through,
kind by kind, as they are made; no code is known that names SE in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import nn

from faceprint.data.pixels import InputSpec
from faceprint.models.inception_resnet import Residual
from faceprint.models.network import FaceNetwork
from faceprint.models.resnet import ResNetBackbone
from faceprint.models.units import BasicV1, BottleneckV3, SqueezeExcite
from faceprint.models.weights.layout import BlockDiagonal, Layout, Less, Rules, Same, Source, by_rules

_LEAVES = {
    "norm": {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"},
    "prelu": {"weight": "gamma"},
    "linear": {"weight": "weight", "bias": "bias"},
}
"""Kind of layer -> our names of its tensors -> theirs."""

_BACKBONE: Rules = [
    (r"backbone\.(conv_\d+(_dw)?)\.0", r"\1_conv2d linear"),
    (r"backbone\.(conv_\d+(_dw)?)\.1", r"\1_batchnorm norm"),
    (r"backbone\.(conv_\d+(_dw)?)\.2", r"\1_relu prelu"),
    (r"backbone\.conv1", "conv0 linear"),
    (r"backbone\.bn1", "bn0 norm"),
    (r"backbone\.prelu", "relu0 prelu"),
    (r"backbone\.(stage\d_unit\d+_conv\d)", r"\1 linear"),
    (r"backbone\.(stage\d_unit\d+_bn\d)", r"\1 norm"),
    (r"backbone\.(stage\d_unit\d+_)prelu", r"\1relu1 prelu"),
    (r"backbone\.(stage\d_unit\d+_)prelu(\d)", r"\1relu\2 prelu"),
    (r"backbone\.(stage\d_unit\d+_)se\.gate\.1", r"\1se_conv1 linear"),
    (r"backbone\.(stage\d_unit\d+_)se\.gate\.2", r"\1se_relu1 prelu"),
    (r"backbone\.(stage\d_unit\d+_)se\.gate\.3", r"\1se_conv2 linear"),
    (r"backbone\.(stage\d_unit\d+_)downsample", r"\1sc linear"),
    (r"backbone\.(stage\d_unit\d+_)downsample\.0", r"\1conv1sc linear"),
    (r"backbone\.(stage\d_unit\d+_)downsample\.1", r"\1sc norm"),
]
# The activation after the sum is the third also in units that have two.
_BASIC_V1: Rules = [(r"backbone\.(stage\d_unit\d+_)prelu2", r"\1relu3 prelu")]

_OUTPUT: Rules = [
    (r"output\.norm", "bn1 norm"),
    (r"output\.prelu", "relu1 prelu"),
    (r"output\.fc", "pre_fc1 linear"),
    (r"output\.features", "fc1 norm"),
    (r"output\.activation", "fc1_relu prelu"),
]
_GDC: Rules = [(r"output\.conv", "conv_6dw7_7_conv2d linear"), (r"output\.norm", "conv_6dw7_7_batchnorm norm")]


def _layers(network: FaceNetwork) -> Callable[[str], str | None]:
    """Our names of layers -> their name and the kind of layer, None for those they have no place for."""
    numbered, rules = _numbered(network.backbone), by_rules([*_special(network), *_BACKBONE, *_OUTPUT])

    def layer(name: str) -> str | None:
        counted = re.sub(r"layer(\d)\.(\d+)\.", lambda match: f"stage{match[1]}_unit{int(match[2]) + 1}_", name)
        place = rules(counted)
        return numbered.get(name) or (place.name if isinstance(place, Same) else None)

    return layer


def _special(network: FaceNetwork) -> Rules:
    """Rules for what has another name in this kind of network."""
    children = dict(network.output.named_children())
    first_unit = network.backbone.layer1[0] if isinstance(network.backbone, ResNetBackbone) else None
    return [
        *(_BASIC_V1 if isinstance(first_unit, BasicV1) else []),
        *(_GDC if "conv" in children else []),
    ]


def _numbered(backbone: nn.Module) -> dict[str, str]:
    """Places of an Inception-ResNet's convolutions and of the norm after each; none for another network."""
    kinds = {type(module) for module in backbone.modules()}
    if Residual not in kinds or SqueezeExcite in kinds:
        return {}
    places: dict[str, str] = {}
    convolutions = (name for name, module in backbone.named_modules() if isinstance(module, nn.Conv2d))
    for number, name in enumerate(convolutions):
        chain, _, place = name.rpartition(".")
        places[f"backbone.{name}"] = f"convolution{number} linear"
        places[f"backbone.{chain}.{int(place) + 1}"] = f"batchnorm{number} norm"
    return places


def _extra_bias(network: FaceNetwork) -> dict[str, str]:
    """Their norms -> the bias of the layer before, of which ours has none: the norm takes it away again."""
    numbers = [place.split(" ")[0] for place in _numbered(network.backbone).values() if place.endswith(" norm")]
    biases = {norm: f"{norm.replace('batchnorm', 'convolution')}_bias" for norm in numbers}
    ours = network.state_dict()
    without = "output.fc.weight" in ours and "output.fc.bias" not in ours
    return {**biases, "fc1": "pre_fc1_bias"} if without else biases


def _grouped(network: FaceNetwork) -> set[str]:
    """Our convolutions that stand there in groups: the first of each ResNeXt unit, not the second alone."""
    units = ((name, unit) for name, unit in network.named_modules() if isinstance(unit, BottleneckV3))
    return {f"{name}.conv1.weight" for name, unit in units if unit.conv2.groups > 1}


def _source(network: FaceNetwork) -> Callable[[str], Source | None]:
    layers, biases, grouped = _layers(network), _extra_bias(network), _grouped(network)

    def source(name: str) -> Source | None:
        layer, _, leaf = name.rpartition(".")
        node, _, kind = (layers(layer) or "").partition(" ")
        if leaf not in _LEAVES.get(kind, {}):
            return None
        theirs = f"{node}_{_LEAVES[kind][leaf]}"
        if leaf == "running_mean" and node in biases:
            return Less(theirs, biases[node])
        return BlockDiagonal(theirs) if name in grouped else Same(theirs)

    return source


MXNET = Layout(marker=r"(conv_1_conv2d|conv0|convolution0)_weight", source=_source, input=InputSpec(std=128.0))
