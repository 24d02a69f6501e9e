"""ONNX files of small networks, as MXNet's exporter wrote those of 2017; layer by layer, from their definitions."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

DIM = 16
EPS = 3e-4
UNITS = {
    ("v1", False): "conv1:3:early bn1 relu1 conv2:3:late bn2",
    ("v1", True): "conv1:1:early bn1 relu1 conv2:3 bn2 relu2 conv3:1:late bn3",
    ("v2", False): "bn1 relu1 conv1:3:stride bn2 relu2 conv2:3",
    ("v2", True): "bn1 relu1 conv1:1 bn2 relu2 conv2:3:stride bn3 relu3 conv3:1",
    ("v3", False): "bn1 conv1:3 bn2 relu1 conv2:3:stride bn3",
    ("v3", True): "bn1 conv1:1 bn2 relu1 conv2:3 bn3 relu2 conv3:1:stride bn4",
}
"""Layers on a unit's way; a convolution with its kernel and which stride it takes, the last one being as wide as the
unit."""


class Graph:
    """An ONNX graph in the making; `x` is a tensor's name, methods return that of their output, of `channels`."""

    def __init__(self) -> None:
        self.nodes, self.tensors, self.channels, self.counts = [], {}, {"data": 3}, {}
        self.random = np.random.default_rng(0)

    def put(self, name, array):
        self.tensors[name] = array.astype(np.float32)
        return name

    def node(self, kind, name, *inputs, channels=None, **attributes):
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        self.channels[name] = channels or self.channels[inputs[0]]
        return name

    def conv(self, name, x, channels, kernel, stride=1, pad=None, groups=1, bias=False):
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        pad = [side // 2 for side in kernel] if pad is None else pad
        shape = (channels, self.channels[x] // groups, *kernel)
        weight = self.put(f"{name}_weight", self.random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape))
        more = [self.put(f"{name}_bias", self.random.normal(0, 0.1, channels))] if bias else []
        how = {"kernel_shape": kernel, "strides": [stride] * 2, "pads": [*pad, *pad], "group": groups}
        return self.node("Conv", name, x, weight, *more, channels=channels, **how)

    def norm(self, name, x):
        ranges = {"gamma": (0.5, 1.5), "beta": (-0.3, 0.3), "moving_mean": (-0.3, 0.3), "moving_var": (0.5, 2)}
        channels = self.channels[x]
        inputs = [self.put(f"{name}_{leaf}", self.random.uniform(*ends, channels)) for leaf, ends in ranges.items()]
        return self.node("BatchNormalization", name, x, *inputs, epsilon=EPS)

    def prelu(self, name, x, rank=4):
        shape = (self.channels[x], 1, 1)[: rank - 1]
        return self.node("PRelu", name, x, self.put(f"{name}_gamma", self.random.uniform(0, 0.5, shape)))

    def linear(self, name, x, inputs):
        weight = self.put(f"{name}_weight", self.random.normal(0, inputs**-0.5, (DIM, inputs)))
        bias = self.put(f"{name}_bias", self.random.normal(0, 0.1, DIM))
        return self.node("Gemm", name, x, weight, bias, transB=1, channels=DIM)

    def excite(self, name, x):
        channels = self.channels[x]
        gate = self.conv(
            f"{name}_conv1", self.node("GlobalAveragePool", f"{name}_pool1", x), channels // 16, 1, bias=True
        )
        gate = self.conv(f"{name}_conv2", self.prelu(f"{name}_relu1", gate), channels, 1, bias=True)
        return self.node("Mul", name, x, self.node("Sigmoid", f"{name}_sigmoid", gate))

    def unit(self, name, x, width, stride, *, kind, bottleneck, se, groups, large_stem, first):
        start, strides = (
            x,
            {"stride": stride, "early": 1 if large_stem else stride, "late": stride if large_stem else 1},
        )
        inner = width // (2 if groups > 1 else 4) if bottleneck else width
        layers = [layer.split(":") for layer in UNITS[kind, bottleneck].split()]
        last = [layer for layer, *_ in layers if layer.startswith("conv")][-1]
        for layer, *how in layers:
            if layer.startswith("conv"):
                split = groups if layer != last else 1
                step = strides[how[1]] if how[1:] else 1
                x = self.conv(f"{name}_{layer}", x, width if layer == last else inner, int(how[0]), step, groups=split)
            else:
                x = (self.norm if layer.startswith("bn") else self.prelu)(f"{name}_{layer}", x)
            if layer == "relu1" and kind == "v2" and first:
                start = x
        x = self.excite(f"{name}_se", x) if se else x
        if first and kind == "v2":
            start = self.conv(f"{name}_sc", start, width, 1, stride)
        elif first:
            start = self.norm(f"{name}_sc", self.conv(f"{name}_conv1sc", start, width, 1, stride))
        x = self.node("Add", f"{name}_plus", x, start)
        return self.prelu(f"{name}_relu3", x) if kind == "v1" else x

    def start(self):
        x = self.node("Identity", "id", "data")
        x = self.node("Sub", "_minusscalar0", x, self.put("scalar_op1", np.array([127.5])))
        return self.node("Mul", "_mulscalar0", x, self.put("scalar_op2", np.array([0.0078125])))

    def head(self, x, output, places):
        if output == "GDC":
            side = int(places**0.5)
            x = self.conv("conv_6dw7_7_conv2d", x, self.channels[x], side, pad=(0, 0), groups=self.channels[x])
            x = self.node("Flatten", "flatten", self.norm("conv_6dw7_7_batchnorm", x))
            return self.norm("fc1", self.linear("pre_fc1", x, self.channels[x]))
        x = self.norm("bn1", x)
        x = x if output == "E" else self.prelu("relu1", x)
        pooled = output not in "EF"
        x = self.node("GlobalAveragePool", "pool1", x) if pooled else x
        x = self.node("Flatten", "flatten", x)
        if output[0] == "A":
            return x
        x = self.linear("pre_fc1", x, self.channels[x] * (1 if pooled else places))
        x = x if output in "BG" else self.norm("fc1", x)
        return self.prelu("fc1_relu", x, rank=2) if output == "D" else x

    def bytes(self, output, size) -> bytes:
        ends = (("data", ["N", 3, size, size]), (output, ["N", self.channels[output]]))
        made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends]
        weights = [numpy_helper.from_array(array, name) for name, array in self.tensors.items()]
        graph = helper.make_graph(self.nodes, "network", made[:1], made[1:], weights)
        opset = [helper.make_opsetid("", 13)]
        return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def resnet_file(
    units=(1, 1, 1, 1), *, kind="v3", bottleneck=False, se=False, groups=1, output="E", large_stem=True, size=32
) -> bytes:
    graph = Graph()
    x = graph.conv("conv0", graph.start(), 64, *((3, 1) if large_stem else (7, 2)))
    x = graph.prelu("relu0", graph.norm("bn0", x))
    if not large_stem:
        x = graph.node("MaxPool", "pooling0", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for stage, count in enumerate(units, start=1):
        for number in range(1, count + 1):
            stride = 2 if number == 1 and (stage > 1 or large_stem) else 1
            style = {"kind": kind, "bottleneck": bottleneck, "se": se, "groups": groups, "large_stem": large_stem}
            width = (256 if bottleneck else 64) * 2 ** (stage - 1)
            x = graph.unit(f"stage{stage}_unit{number}", x, width, stride, first=number == 1, **style)
    places = (size // (16 if large_stem else 32)) ** 2
    return graph.bytes(graph.head(x, output, places), size)


def mobilenet_file(output: str, size=64) -> bytes:
    """With stride 2 at first and a quarter of the width."""
    graph = Graph()

    def layer(name, x, channels, kernel, stride=1, groups=1):
        x = graph.norm(f"{name}_batchnorm", graph.conv(f"{name}_conv2d", x, channels, kernel, stride, groups=groups))
        return graph.prelu(f"{name}_relu", x)

    x = layer("conv_1", graph.start(), 8, 3, 2)
    for number, width in enumerate((16, 32, 32, 64, 64, *(128,) * 6, 256, 256), start=2):
        x = layer(f"conv_{number}_dw", x, graph.channels[x], 3, 2 if number in (3, 5, 7, 13) else 1, graph.channels[x])
        x = layer(f"conv_{number}", x, width, 1)
    return graph.bytes(graph.head(x, output, (size // 32) ** 2), size)


class Inception:
    """Inception-ResNet-v2 with one block of each kind; its layers have the names MXNet gives to what has none."""

    def __init__(self) -> None:
        self.graph = Graph()

    def auto(self, kind):
        number = self.graph.counts.get(kind, 0)
        self.graph.counts[kind] = number + 1
        return f"{kind}{number}"

    def conv(self, x, channels, kernel, stride=1, pad=(0, 0), act=True):
        x = self.graph.conv(self.auto("convolution"), x, channels, kernel, stride, pad, bias=True)
        x = self.graph.norm(self.auto("batchnorm"), x)
        return self.graph.node("Relu", self.auto("activation"), x) if act else x

    def pool(self, x):
        return self.graph.node("MaxPool", self.auto("pooling"), x, kernel_shape=[3, 3], strides=[2, 2])

    def join(self, *parts):
        channels = sum(self.graph.channels[part] for part in parts)
        return self.graph.node("Concat", self.auto("concat"), *parts, axis=1, channels=channels)

    def residual(self, x, mixed, scale, act=True):
        out = self.conv(mixed, self.graph.channels[x], 1, act=False)
        number = self.graph.put(self.auto("block_scalar"), np.array([scale]))
        x = self.graph.node("Add", self.auto("_plus"), x, self.graph.node("Mul", self.auto("scaled"), out, number))
        return self.graph.node("Relu", self.auto("activation"), x) if act else x

    def block35(self, x):
        first, second = self.conv(x, 32, 1), self.conv(self.conv(x, 32, 1), 32, 3, pad=(1, 1))
        third = self.conv(self.conv(self.conv(x, 32, 1), 48, 3, pad=(1, 1)), 64, 3, pad=(1, 1))
        return self.residual(x, self.join(first, second, third), 0.17)

    def block17(self, x):
        first = self.conv(x, 192, 1)
        second = self.conv(self.conv(self.conv(x, 129, 1), 160, (1, 7), pad=(1, 2)), 192, (7, 1), pad=(2, 1))
        return self.residual(x, self.join(first, second), 0.1)

    def block8(self, x, scale, act=True):
        first = self.conv(x, 192, 1)
        second = self.conv(self.conv(self.conv(x, 192, 1), 224, (1, 3), pad=(0, 1)), 256, (3, 1), pad=(1, 0))
        return self.residual(x, self.join(first, second), scale, act)

    def mixed_5b(self, x):
        parts = [self.conv(x, 96, 1), self.conv(self.conv(x, 48, 1), 64, 5, pad=(2, 2))]
        parts.append(self.conv(self.conv(self.conv(x, 64, 1), 96, 3, pad=(1, 1)), 96, 3, pad=(1, 1)))
        how = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1] * 4, "count_include_pad": 1}
        return self.join(*parts, self.conv(self.graph.node("AveragePool", self.auto("pooling"), x, **how), 64, 1))

    def file(self, output, size=64) -> bytes:
        x = self.conv(self.conv(self.graph.start(), 32, 3, 2), 32, 3)
        x = self.mixed_5b(self.pool(self.conv(self.conv(self.conv(x, 64, 3, pad=(1, 1)), 80, 1), 192, 3)))
        x = self.block35(x)
        first = self.conv(x, 384, 3, 2)
        second = self.conv(self.conv(self.conv(x, 256, 1), 256, 3, pad=(1, 1)), 384, 3, 2)
        x = self.block17(self.join(first, second, self.pool(x)))
        parts = [self.conv(self.conv(x, 256, 1), width, 3, 2) for width in (384, 288)]
        parts.append(self.conv(self.conv(self.conv(x, 256, 1), 288, 3, pad=(1, 1)), 320, 3, 2))
        x = self.block8(self.block8(self.join(*parts, self.pool(x)), 0.2), 1.0, act=False)
        return self.graph.bytes(self.graph.head(self.conv(x, 1536, 1), output, 0), size)
