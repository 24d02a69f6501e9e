"""YuNet in our hands: places, colours and scales, shown with a toy detector whose answers are known exactly."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from toy_detector import landmarks_of, paint, write_toy_detector

from faceprint.data.detection import CHOOSERS, Face, YuNet, choose_face, refine
from faceprint.errors import UserError


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy_detector(tmp_path_factory.mktemp("models") / "toy.onnx")


def grey(height, width):
    return np.full((height, width, 3), 90, np.uint8)


def by_place(faces):
    return sorted(faces, key=lambda face: face.box)


@pytest.mark.parametrize(("height", "width"), [(96, 128), (101, 77), (64, 250)])
def test_landmarks_and_boxes_are_where_the_faces_are(toy, height, width):
    image = grey(height, width)
    places = [(2, 2), (8, 6)]
    for place in places:
        paint(image, *place)
    faces = by_place(YuNet(toy).detect(image))
    assert len(faces) == 2
    for face, (column, row) in zip(faces, places, strict=True):
        np.testing.assert_allclose(face.landmarks, landmarks_of(column, row), atol=1e-4)
        # centre in the middle of the block, 32 wide and 40 high
        np.testing.assert_allclose(face.box, (column * 8 + 4 - 16, row * 8 + 4 - 20, 32, 40), atol=1e-3)
        assert face.score == pytest.approx(1, abs=1e-5)
        assert face.area == pytest.approx(32 * 40, rel=1e-5)
        assert face.centre == pytest.approx((column * 8 + 4, row * 8 + 4), abs=1e-3)


def test_images_are_rgb(toy):
    image = grey(96, 96)
    paint(image, 5, 5)
    assert len(YuNet(toy).detect(image)) == 1
    assert YuNet(toy).detect(np.ascontiguousarray(image[..., ::-1])) == []


def test_the_threshold_holds(toy):
    image = grey(96, 96)
    image[40:48, 40:48] = (200, 0, 0)  # the toy's score: (200 - 0) / 255 = 0.784
    assert len(YuNet(toy, score_threshold=0.75).detect(image)) == 1
    assert YuNet(toy, score_threshold=0.8).detect(image) == []


def test_surest_first(toy):
    image = grey(96, 200)
    paint(image, 3, 5)
    image[40:48, 24:32] = (220, 0, 0)
    paint(image, 15, 5)
    scores = [face.score for face in YuNet(toy).detect(image)]
    np.testing.assert_allclose(scores, [1, 220 / 255], atol=1e-4)


@pytest.mark.parametrize("factor", [2, 4])
def test_large_photographs_are_searched_at_640_and_measured_in_their_own_pixels(toy, factor):
    small = grey(480, 640)
    paint(small, 30, 20)
    image = np.repeat(np.repeat(small, factor, axis=0), factor, axis=1)
    (face,) = YuNet(toy).detect(image)
    # pixel centres are at whole numbers: the middle of small pixel c is at c * factor + (factor - 1) / 2
    expected = landmarks_of(30, 20) * factor + (factor - 1) / 2
    np.testing.assert_allclose(face.landmarks, expected, atol=1e-3)
    np.testing.assert_allclose(face.box[2:], (32 * factor, 40 * factor), rtol=1e-4)


def test_a_face_too_small_at_640_is_found_at_1280(toy):
    image = grey(960, 1280)
    paint(image, 51, 33)  # 8 pixels here are 4 at 640: a quarter of a block, not red enough
    (face,) = YuNet(toy).detect(image)
    np.testing.assert_allclose(face.landmarks, landmarks_of(51, 33), atol=1e-3)


def test_refining_measures_in_a_close_up_and_maps_back(toy):
    """A face given as 320 pixels wide is looked at in 416 x 416 pixels around it, at its own scale."""
    image = grey(700, 800)
    paint(image, 60, 50)
    rough = face(484 - 160, 404 - 160, 320, 320, score=0.7)  # its centre is the block's, (484, 404)
    refined = refine(YuNet(toy), image, rough)
    # the close-up begins at (484 - 208, 404 - 208) = (276, 196): 4 pixels off the grid, so half a block is seen
    assert refined is rough
    rough = face(480 - 160, 400 - 160, 320, 320, score=0.7)
    refined = refine(YuNet(toy), image, rough)
    np.testing.assert_allclose(refined.landmarks, landmarks_of(60, 50), atol=1e-3)
    assert (refined.box, refined.score) == (rough.box, rough.score)


def test_refining_a_large_face_shrinks_it(toy):
    small = grey(400, 400)
    paint(small, 20, 22)
    image = np.repeat(np.repeat(small, 3, axis=0), 3, axis=1)
    rough = face(0, 48, 960, 960)  # 1.3 x 960 = 1248 pixels around (480, 528): from (0, 0), cut at the edges
    refined = refine(YuNet(toy), image, rough)
    np.testing.assert_allclose(refined.landmarks, landmarks_of(20, 22) * 3 + 1, atol=0.01)


def test_refining_takes_the_face_it_was_given(toy):
    image = grey(700, 800)
    for column in (40, 52, 60, 64):
        paint(image, column, 50)
    refined = refine(YuNet(toy), image, face(480 - 160, 400 - 160, 320, 320))
    np.testing.assert_allclose(refined.landmarks, landmarks_of(60, 50), atol=1e-3)


@pytest.mark.parametrize("box", [(0, 0, 320, 320), (-900, 0, 30, 30), (5000, 5000, 9, 9), (3, 3, 1e-3, 1e-3)])
def test_refining_keeps_what_it_cannot_see_again(toy, box):
    rough = face(*box)
    assert refine(YuNet(toy), grey(300, 300), rough) is rough


@pytest.mark.parametrize("shape", [(1, 1), (1, 20_000), (9_000, 2), (5, 5), (33, 31)])
def test_odd_shapes_have_no_faces_and_do_no_harm(toy, shape):
    assert YuNet(toy).detect(grey(*shape)) == []


@pytest.mark.parametrize("image", [grey(9, 9).astype(np.float32), grey(9, 9)[..., 0], grey(9, 9)[:0]])
def test_what_is_no_image_is_refused(toy, image):
    with pytest.raises(UserError, match="detect takes uint8"):
        YuNet(toy).detect(image)


def test_nothing_is_printed_and_opencv_logs_as_before(toy, capfd):
    log = getattr(cv2.utils, "logging", cv2)
    level = log.getLogLevel()
    YuNet(toy).detect(grey(64, 64))
    assert capfd.readouterr() == ("", "")
    assert log.getLogLevel() == level


def other_network(path):
    """A sound ONNX file that is no face detector."""
    inputs, outputs = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 32, 32]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [inputs], [outputs])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def test_files_that_are_no_detector(toy, tmp_path, capfd):
    other_network(tmp_path / "relu.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "text.onnx").write_text("<html>404</html>")
    (tmp_path / "torn.onnx").write_bytes(toy.read_bytes()[:5000])
    (tmp_path / "noise.onnx").write_bytes(np.random.default_rng(0).bytes(4000))
    (tmp_path / "folder.onnx").mkdir()
    for name in ("relu", "empty", "text", "torn", "noise"):
        with pytest.raises(UserError, match=rf"{name}\.onnx: not a YuNet face detector"):
            YuNet(tmp_path / f"{name}.onnx")
    for name in ("folder", "absent"):
        with pytest.raises(UserError, match=rf"{name}\.onnx: cannot be read"):
            YuNet(tmp_path / f"{name}.onnx")
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(UserError, match="larger than 64 MiB"):
        YuNet(tmp_path / "huge.onnx")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("threshold", [0, -1, 1.1, float("nan")])
def test_thresholds_outside_their_range(toy, threshold):
    with pytest.raises(UserError, match="score threshold"):
        YuNet(toy, score_threshold=threshold)


def face(x, y, width, height, score=0.9):
    return Face(box=(x, y, width, height), landmarks=np.zeros((5, 2)), score=score)


def test_choosing_a_face():
    middle, corner = face(90, 40, 20, 20, score=0.7), face(0, 0, 60, 60)
    for faces in ([middle, corner], [corner, middle]):
        assert choose_face(faces, (100, 200)) is middle
        assert choose_face(faces, (100, 200), "central") is middle
        assert choose_face(faces, (100, 200), "largest") is corner
    assert choose_face([corner], (100, 200), "central") is corner
    # (height, width): in an image of 200 x 50 the middle is (25, 100)
    low, right = face(15, 90, 20, 20), face(90, 15, 20, 20)
    assert choose_face([right, low], (200, 50)) is low


def test_unknown_choices_are_named():
    with pytest.raises(UserError, match=r"unknown face choice 'larget' \(nearest: 'largest'\)"):
        choose_face([face(0, 0, 1, 1)], (10, 10), "larget")
    assert list(CHOOSERS) == ["central", "largest"]
