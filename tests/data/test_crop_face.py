"""The face of a photograph as a command crops it, against what `data align` writes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from toy_detector import paint, write_toy_detector

from faceprint.data.align_folder import align_folder
from faceprint.data.detection import YuNet
from faceprint.data.detectors import choose_detector
from faceprint.data.images import ImageError, read_image
from faceprint.inference.crop import crop_face


def test_crops_are_those_of_data_align(tmp_path: Path) -> None:
    """With the close-up: in it the toy face lies elsewhere on the detector's grid, so that its landmarks move."""
    model = write_toy_detector(tmp_path / "toy.onnx")
    photograph = np.random.default_rng(0).integers(0, 90, (96, 128, 3), np.uint8)
    paint(photograph, 5, 4)
    (tmp_path / "photographs").mkdir()
    cv2.imwrite(str(tmp_path / "photographs" / "a.png"), photograph[..., ::-1])
    detector = YuNet(model, 0.5)
    crop = crop_face(tmp_path / "photographs" / "a.png", detector, (56, 48))
    for refine, equal in ((True, True), (False, False)):
        choice = choose_detector("yunet", str(model), score_threshold=0.5, refine=refine)
        folder = tmp_path / f"crops-{refine}"
        align_folder(tmp_path / "photographs", folder, detector=choice, size=(56, 48), image_format="png")
        assert np.array_equal(read_image(folder / "a.png"), crop) == equal


def test_no_face_is_an_error_that_names_the_photograph(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "empty.png"), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ImageError, match=r"empty\.png: no face found"):
        crop_face(tmp_path / "empty.png", YuNet(write_toy_detector(tmp_path / "toy.onnx")), (56, 48))
