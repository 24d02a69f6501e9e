"""Real photographs through the real detector, from the command line to crops that a recogniser understands."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from faceprint.cli.data import app
from faceprint.data.alignment import align, similarity_transform, template
from faceprint.data.detection import YuNet, choose_face, refine
from faceprint.data.images import read_image
from faceprint.data.model_files import YUNET, file_sha256

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def detector(test_data):
    return YuNet(test_data / "models" / YUNET.name)


@pytest.fixture(scope="module")
def people(test_data):
    """150 photographs, spread over the alphabet."""
    photographs = sorted((test_data / "data" / "lfw").glob("*/*_0001.jpg"))
    return photographs[:: len(photographs) // 150][:150]


def found(detector, image):
    return refine(detector, image, choose_face(detector.detect(image), image.shape[:2]))


def test_the_known_detector_is_the_published_file(test_data):
    assert file_sha256(test_data / "models" / YUNET.name) == YUNET.sha256


def test_align_finds_every_face_and_goes_on(test_data, people, tmp_path, monkeypatch):
    for path in people:
        (tmp_path / "in" / path.parent.name).mkdir(parents=True)
        (tmp_path / "in" / path.parent.name / path.name).symlink_to(path)
    monkeypatch.setenv("FACEPRINT_MODELS", str(test_data / "models"))
    command = ["align", str(tmp_path / "in"), str(tmp_path / "out"), "--workers", "2", "--json", "-"]
    first = json.loads(CliRunner().invoke(app, command).stdout)
    assert (first["photographs"], first["found"], first["not_found"], first["unreadable"]) == (150, 150, [], [])
    crops = sorted((tmp_path / "out").glob("*/*.jpg"))
    assert [crop.stem for crop in crops] == [path.stem for path in people]
    assert {read_image(crop).shape for crop in crops} == {(112, 112, 3)}

    for crop in crops[10:20]:
        crop.unlink()
    second = json.loads(CliRunner().invoke(app, command).stdout)
    assert (second["found"], second["already_done"]) == (10, 140)


def test_landmarks_are_ordered_as_seen_in_the_image(detector, people):
    for path in people[:40]:
        image = read_image(path)
        left_eye, right_eye, nose, left_mouth, right_mouth = found(detector, image).landmarks
        assert left_eye[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_a_face_found_again_in_its_crop_lies_on_the_template(detector, people):
    """Landmarks detected anew in the crop are the template's, but for the few pixels by which the detector errs."""
    again = []
    for path in people[:60]:
        image = read_image(path)
        crop = align(image, found(detector, image).landmarks)
        again += [found(detector, crop).landmarks] if detector.detect(crop) else []
    assert len(again) >= 55
    np.testing.assert_allclose(np.mean(again, axis=0), template(), atol=3)


@pytest.mark.parametrize("side", [1280, 2560])
def test_close_ups_of_any_size_are_found(detector, people, side):
    for path in people[::15]:
        image = read_image(path)[70:180, 70:180]  # the face fills the picture
        close_up = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
        assert detector.detect(close_up), f"{path.name} at {side}"


def test_turned_photographs_are_turned_back(detector, people):
    """A photograph turned by 20 degrees is straightened by 20 degrees more than the photograph itself."""
    more = []
    for path in people[:30]:
        image = read_image(path)
        turn = cv2.getRotationMatrix2D((125, 125), -20, 1)  # OpenCV counts against the clock, y points down
        turned = cv2.warpAffine(image, turn, (250, 250), borderMode=cv2.BORDER_REPLICATE).astype(np.uint8)
        upright, after = (similarity_transform(found(detector, each).landmarks, template()) for each in (image, turned))
        more.append(np.degrees(np.arctan2(after[1, 0], after[0, 0]) - np.arctan2(upright[1, 0], upright[0, 0])))
    assert np.median(more) == pytest.approx(-20, abs=3)
