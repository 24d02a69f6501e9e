"""SCRFD and RetinaFace files, by networks made on the spot: codings, sizes, batches, and what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from toy_anchor_network import FAMILIES, STRIDES, expected, paint, write_network

from faceprint.data.onnx_detector import OnnxDetector
from faceprint.errors import UserError


def grey(height, width):
    return np.full((height, width, 3), 90, np.uint8)


def detect(detector, *images):
    return detector.detect_batch(images, [""] * len(images))


def check(face, family, stride, column, row, factor=1):
    box, landmarks = expected(family, stride, column, row)
    np.testing.assert_allclose(face.box, np.multiply(box, factor), atol=1e-3)
    np.testing.assert_allclose(face.landmarks, np.multiply(landmarks, factor), atol=1e-3)
    assert face.score == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("batched", [True, False])
def test_each_level_of_each_family_is_decoded(tmp_path, family, stride, batched):
    detector = OnnxDetector(write_network(tmp_path / "net.onnx", family, size=(128, 192), batched=batched))
    image = grey(128, 192)
    paint(image, stride, 3, 2)
    ((face,),) = detect(detector, image)
    check(face, family, stride, 3, 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_open_sizes_are_640_and_results_are_in_pixels_of_the_photograph(tmp_path, family):
    detector = OnnxDetector(write_network(tmp_path / "net.onnx", family))
    small = grey(400, 640)
    paint(small, 16, 20, 11)
    large = np.repeat(np.repeat(small, 2, axis=0), 2, axis=1)
    (first,), (second,) = detect(detector, small, large)
    check(first, family, 16, 20, 11)
    check(second, family, 16, 20, 11, factor=2)


def test_photographs_of_any_sizes_go_through_together(tmp_path):
    together = OnnxDetector(write_network(tmp_path / "batch.onnx", "scrfd"))
    single = OnnxDetector(write_network(tmp_path / "single.onnx", "scrfd", batched=False))
    assert (together._takes_batches, single._takes_batches) == (True, False)
    images = [grey(640, 640 - 32 * number) for number in range(11)]
    for number, image in enumerate(images):
        paint(image, 8, 5 + number, 7)
    for faces, alone, number in zip(detect(together, *images), detect(single, *images), range(11), strict=True):
        check(faces[0], "scrfd", 8, 5 + number, 7)
        check(alone[0], "scrfd", 8, 5 + number, 7)


def test_a_photograph_without_a_face_at_640_is_searched_at_1280(tmp_path):
    detector = OnnxDetector(write_network(tmp_path / "net.onnx", "scrfd"), score_threshold=0.7)
    image = grey(1280, 1280)
    paint(image, 8, 51, 33)  # a quarter of a block at 640
    ((face,), none) = detect(detector, image, grey(100, 100))
    check(face, "scrfd", 8, 51, 33)
    assert none == []


def test_overlapping_boxes_are_one_face_and_others_are_sorted_by_score(tmp_path):
    detector = OnnxDetector(write_network(tmp_path / "net.onnx", "scrfd", size=(128, 128), both_anchors=True))
    image = grey(128, 128)
    paint(image, 8, 2, 2)
    image[80:88, 80:88] = (200, 0, 0)
    (faces,) = detect(detector, image)
    assert [face.score for face in faces] == pytest.approx([1, 200 / 255], abs=1e-3)


def test_colours_and_threshold(tmp_path):
    path = write_network(tmp_path / "net.onnx", "pytorch", size=(128, 128))
    image = grey(128, 128)
    image[16:24, 16:24] = (200, 0, 0)
    assert len(detect(OnnxDetector(path, 0.75), image)[0]) == 1
    assert detect(OnnxDetector(path, 0.8), image) == [[]]
    assert detect(OnnxDetector(path, 0.75), np.ascontiguousarray(image[..., ::-1])) == [[]]
    assert detect(OnnxDetector(path)) == []
    for threshold in (0, 1.1, float("nan")):
        with pytest.raises(UserError, match="score threshold"):
            OnnxDetector(path, threshold)
    with pytest.raises(UserError, match="detect takes uint8"):
        detect(OnnxDetector(path), image.astype(float))


def other(path, outputs, shape=("n", 3, "h", "w")):
    """A sound ONNX file that gives its input as often as `outputs` says."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    nodes = [helper.make_node("Relu", ["x"], [f"y{number}"]) for number in range(outputs)]
    made = [helper.make_tensor_value_info(f"y{number}", TensorProto.FLOAT, None) for number in range(outputs)]
    graph = helper.make_graph(nodes, "relu", [given], made)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_files_that_are_no_such_network(tmp_path):
    sound = write_network(tmp_path / "net.onnx", "scrfd").read_bytes()
    for name, content in (("empty", b""), ("text", b"<html>404</html>"), ("torn", sound[: len(sound) // 2])):
        (tmp_path / f"{name}.onnx").write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}\.onnx: onnxruntime .* cannot run it"):
            OnnxDetector(tmp_path / f"{name}.onnx")
    with pytest.raises(UserError, match=r"absent\.onnx: cannot be read"):
        OnnxDetector(tmp_path / "absent.onnx")
    for outputs in (1, 9):
        with pytest.raises(UserError, match="no SCRFD or RetinaFace with five landmarks: its outputs are 3x128x128"):
            OnnxDetector(other(tmp_path / "relu.onnx", outputs))
    with pytest.raises(UserError, match=r"takes .*, not images"):
        OnnxDetector(other(tmp_path / "flat.onnx", 1, shape=("n", 3)))
    with pytest.raises(UserError, match=r"images of 9x9"):
        OnnxDetector(other(tmp_path / "tiny.onnx", 1, shape=(1, 3, 9, 9)))
    with pytest.raises(UserError, match=r"anchors for 128x100 pixels, not the"):
        OnnxDetector(write_network(tmp_path / "odd.onnx", "pytorch", size=(128, 100)))
