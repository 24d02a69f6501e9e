"""`data check` on photographs of LFW: what is not aligned, what is blue, and a picture that is there twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceprint.data.align_folder import align_folder
from faceprint.data.check import check_source
from faceprint.data.detectors import choose_detector
from faceprint.data.folder import image_folder
from faceprint.data.images import read_image

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def photographs(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty people with one to nine photographs each, and the pair under two names that LFW has."""
    folder = tmp_path_factory.mktemp("photographs")
    people = sorted(path.name for path in (test_data / "data" / "lfw").iterdir() if path.is_dir())
    small = [name for name in people[100:] if len(list((test_data / "data" / "lfw" / name).iterdir())) < 10]
    for name in [*small[:60], "Carlos_Beltran", "Raul_Ibanez"]:
        shutil.copytree(test_data / "data" / "lfw" / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def crops(photographs: Path, test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    align_folder(photographs, folder, detector=choose_detector("yunet", detector(test_data)))
    return folder


def detector(test_data: Path) -> Path:
    return test_data / "models" / "face_detection_yunet_2023mar.onnx"


def test_aligned_crops_pass(crops: Path, test_data: Path) -> None:
    found = check_source(image_folder(crops), detector_model=detector(test_data))
    crop, asked = found.result["crops"], found.result["detector"]
    assert crop["unaligned_share"] < 0.15
    assert crop["blue_share"] < 0.05
    assert asked["misplaced_share"] < 0.1
    assert asked["faces_found"] == asked["looked_at"]
    assert not any("aligned" in warning or "swapped" in warning for warning in found.warnings)


def test_one_picture_under_two_names_is_found(crops: Path) -> None:
    found = check_source(image_folder(crops))
    groups = [sorted(found.source.name(index).split("/")[-2] for index in group) for group in found.lookalikes]
    assert ["Carlos_Beltran", "Raul_Ibanez"] in groups
    assert any("several identities have the same picture" in warning for warning in found.warnings)


def test_photographs_are_not_crops(photographs: Path, test_data: Path) -> None:
    found = check_source(image_folder(photographs), detector_model=detector(test_data))
    assert found.result["crops"]["unaligned_share"] > 0.85
    assert found.result["detector"]["misplaced_share"] > 0.9
    assert any("not on the alignment template" in warning for warning in found.warnings)


def test_swapped_crops_are_blue(crops: Path, tmp_path: Path) -> None:
    for path in crops.rglob("*.jpg"):
        target = tmp_path / path.relative_to(crops)
        target.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(target), np.ascontiguousarray(read_image(path)))  # RGB, where OpenCV expects BGR
    found = check_source(image_folder(tmp_path))
    assert found.result["crops"]["blue_share"] > 0.95
    assert any("red and blue look swapped" in warning for warning in found.warnings)
