"""Working SCRFD and RetinaFace networks, made on the spot: at each stride they take one colour of block for a face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
COLOURS = {8: (255, 0, 0), 16: (0, 255, 0), 32: (0, 0, 255)}  # RGB
BOX = (0.5, -0.25, 1.5, 1.0)
POINTS = tuple(np.linspace(-1, 1.25, 10).tolist())
FACE_ANCHOR = 1  # of the two at a cell

# family: (channels are BGR, what a pixel of 255 differs from one of 0 by)
FAMILIES = {"scrfd": (False, 255 / 128), "pytorch": (True, 255.0), "mxnet": (False, 255.0)}
PYTORCH_MEANS = (104, 117, 123)  # BGR


def paint(image, stride, column, row):
    """The toy face of that stride: a block of its colour on its grid."""
    image[row * stride : (row + 1) * stride, column * stride : (column + 1) * stride] = COLOURS[stride]


def expected(family, stride, column, row):
    """(box, landmarks) by each family's published formulas, written out again as scalars."""
    level = STRIDES.index(stride)
    points = np.reshape(POINTS, (5, 2))
    if family == "scrfd":
        x, y = column * stride, row * stride
        left, top, right, bottom = (value * stride for value in BOX)
        return (x - left, y - top, left + right, top + bottom), [
            (x + px * stride, y + py * stride) for px, py in points
        ]
    if family == "pytorch":
        size = [(16, 32), (64, 128), (256, 512)][level][FACE_ANCHOR]
        x, y = (column + 0.5) * stride, (row + 0.5) * stride
        width, height = size * np.exp(BOX[2] * 0.2), size * np.exp(BOX[3] * 0.2)
        centre = x + BOX[0] * 0.1 * size, y + BOX[1] * 0.1 * size
        box = (centre[0] - width / 2, centre[1] - height / 2, width, height)
        return box, [(x + px * 0.1 * size, y + py * 0.1 * size) for px, py in points]
    size = 16 * [(2, 1), (8, 4), (32, 16)][level][FACE_ANCHOR]
    x, y = column * stride + 7.5, row * stride + 7.5
    width, height = size * np.exp(BOX[2]), size * np.exp(BOX[3])
    centre = x + BOX[0] * size, y + BOX[1] * size
    corner = centre[0] - 0.5 * (width - 1), centre[1] - 0.5 * (height - 1)
    return (*corner, width - 1, height - 1), [(x + px * size, y + py * size) for px, py in points]


def write_network(path: Path, family: str, *, size=None, batched=True, both_anchors=False) -> Path:
    """`size` fixes the input's (height, width); `batched=False` leaves the batch out of inputs and outputs."""
    graph = _Graph(family, both_anchors)
    outputs = [graph.level(stride, batched) for stride in STRIDES]
    names = graph.join(outputs)
    shape = ["n" if batched else 1, 3, *(size or ("height", "width"))]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    model = helper.make_model(
        helper.make_graph(graph.nodes, family, [image], infos, graph.weights),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    onnx.save(model, path)
    return path


class _Graph:
    def __init__(self, family, both_anchors):
        self.family, self.both = family, both_anchors
        self.bgr, self.range = FAMILIES[family]
        self.nodes, self.weights = [], []

    def level(self, stride, batched):
        """Names of the scores, boxes and landmarks of one stride."""
        score, bias = self._colour(stride)
        nothing = np.zeros_like(score), 0.0
        first = (score, bias) if self.both else nothing
        if self.family == "scrfd":
            kinds = [("s", 1, [first, (score, bias)]), ("b", 4, BOX * 2), ("k", 10, POINTS * 2)]
        elif self.family == "pytorch":
            kinds = [("s", 2, [nothing, first, nothing, (score, bias)]), ("b", 4, BOX * 2), ("k", 10, POINTS * 2)]
        else:
            kinds = [("s", 2, [nothing, nothing, first, (score, bias)]), ("b", 4, BOX * 2), ("k", 10, POINTS * 2)]
        return [self._map(f"{kind}{stride}", stride, channels, rows, batched) for kind, channels, rows in kinds]

    def _colour(self, stride):
        """A kernel that gives 1 for a block of the colour, and 0 for grey."""
        kernel = np.zeros((3, stride, stride), np.float32)
        wanted = COLOURS[stride].index(255)
        weights = np.where(np.arange(3) == wanted, 1.0, -0.5) / self.range
        means = np.array(PYTORCH_MEANS[::-1] if self.family == "pytorch" else (0, 0, 0))
        bias = float(weights @ means)
        kernel[:] = (weights[::-1] if self.bgr else weights)[:, None, None] / stride**2
        return kernel, bias

    def _map(self, name, stride, channels, rows, batched):
        made = [row if isinstance(row, tuple) else (np.zeros((3, stride, stride), np.float32), row) for row in rows]
        kernel = np.stack([kernel for kernel, _ in made]).astype(np.float32)
        bias = np.array([bias for _, bias in made], np.float32)
        self.weights += [numpy_helper.from_array(kernel, f"w{name}"), numpy_helper.from_array(bias, f"b{name}")]
        options = {"kernel_shape": [stride] * 2, "strides": [stride] * 2}
        self.nodes.append(helper.make_node("Conv", ["image", f"w{name}", f"b{name}"], [f"c{name}"], **options))
        if self.family == "mxnet":
            return f"c{name}"
        shape = np.array([0, -1, channels] if batched or self.family == "pytorch" else [-1, channels])
        self.weights.append(numpy_helper.from_array(shape, f"r{name}"))
        self.nodes.append(helper.make_node("Transpose", [f"c{name}"], [f"t{name}"], perm=[0, 2, 3, 1]))
        self.nodes.append(helper.make_node("Reshape", [f"t{name}", f"r{name}"], [name]))
        return name

    def join(self, levels):
        if self.family == "scrfd":
            return [level[kind] for kind in range(3) for level in levels]  # scores, boxes, landmarks; fine to coarse
        if self.family == "mxnet":
            return [name for level in reversed(levels) for name in level]  # coarse to fine
        for kind, name in enumerate(("conf", "loc", "landms")):
            self.nodes.append(helper.make_node("Concat", [level[kind] for level in levels], [name], axis=1))
        return ["loc", "conf", "landms"]
