"""Layout of the 2017 networks, by the names that ONNX files exported from MXNet keep.

Sources: the symbols fmobilenet and fresnet of insightface, and the file face_recognition_sface_2021dec.onnx. The eps of
norms and the preprocessing stand in the graph. Units and stages are counted from 1.
"""

from __future__ import annotations

import re

from faceprint.data.pixels import InputSpec
from faceprint.models.weights.layout import Layout, Same, by_rules

_LEAVES = {
    "norm": {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"},
    "prelu": {"weight": "gamma"},
    "linear": {"weight": "weight", "bias": "bias"},
}
"""Kind of layer -> our names of its tensors -> theirs."""

_node_and_kind = by_rules(
    [
        (r"backbone\.(conv_\d+(_dw)?)\.0", r"\1_conv2d linear"),
        (r"backbone\.(conv_\d+(_dw)?)\.1", r"\1_batchnorm norm"),
        (r"backbone\.(conv_\d+(_dw)?)\.2", r"\1_relu prelu"),
        (r"backbone\.conv1", "conv0 linear"),
        (r"backbone\.bn1", "bn0 norm"),
        (r"backbone\.prelu", "relu0 prelu"),
        (r"backbone\.(stage\d_unit\d+_conv\d)", r"\1 linear"),
        (r"backbone\.(stage\d_unit\d+_bn\d)", r"\1 norm"),
        (r"backbone\.(stage\d_unit\d+_)prelu1?", r"\1relu1 prelu"),
        (r"backbone\.(stage\d_unit\d+_)prelu2", r"\1relu2 prelu"),
        (r"backbone\.(stage\d_unit\d+_)se\.gate\.1", r"\1se_conv1 linear"),
        (r"backbone\.(stage\d_unit\d+_)se\.gate\.2", r"\1se_relu1 prelu"),
        (r"backbone\.(stage\d_unit\d+_)se\.gate\.3", r"\1se_conv2 linear"),
        (r"backbone\.(stage\d_unit\d+_)downsample(\.0)?", r"\1conv1sc linear"),
        (r"backbone\.(stage\d_unit\d+_)downsample\.1", r"\1sc norm"),
        (r"output\.norm", "bn1 norm"),
        (r"output\.prelu", "relu1 prelu"),
        (r"output\.fc", "pre_fc1 linear"),
        (r"output\.features", "fc1 norm"),
    ]
)


def _source(name: str) -> Same | None:
    layer, _, leaf = name.rpartition(".")
    counted = re.sub(r"layer(\d)\.(\d+)\.", lambda match: f"stage{match[1]}_unit{int(match[2]) + 1}_", layer)
    place = _node_and_kind(counted)
    if not isinstance(place, Same):
        return None
    node, kind = place.name.split(" ")
    return Same(f"{node}_{_LEAVES[kind][leaf]}") if leaf in _LEAVES[kind] else None


MXNET = Layout(
    marker=r"(conv_1_conv2d|conv0)_weight",
    source=lambda _network: _source,
    input=InputSpec(std=128.0),
)
