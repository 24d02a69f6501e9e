"""The similarity transform against least squares, the template by hand, and crops against what was drawn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceprint.data.alignment import TEMPLATE, align, similarity_transform, template
from faceprint.errors import UserError


def least_squares(source, target):
    """The same transform from the normal equations of [x -y 1 0; y x 0 1] (a, b, tx, ty) = (u, v)."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        values += [u, v]
    a, b, tx, ty = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    return np.array([[a, -b, tx], [b, a, ty]])


@pytest.mark.parametrize("seed", range(50))
def test_transform_is_the_least_squares_solution(seed):
    random = np.random.default_rng(seed)
    source = random.normal(size=(5, 2)) * 40 + random.uniform(-500, 500, size=2)
    target = TEMPLATE if seed % 2 else random.normal(size=(5, 2)) * 30
    np.testing.assert_allclose(
        similarity_transform(source, target), least_squares(source, target), rtol=1e-7, atol=1e-7
    )


@given(
    angle=st.floats(-np.pi, np.pi),
    scale=st.floats(0.05, 20),
    shift=st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
)
def test_an_exact_similarity_is_recovered(angle, scale, shift):
    expected = np.array(
        [
            [scale * np.cos(angle), -scale * np.sin(angle), shift[0]],
            [scale * np.sin(angle), scale * np.cos(angle), shift[1]],
        ]
    )
    target = TEMPLATE @ expected[:, :2].T + expected[:, 2]
    np.testing.assert_allclose(similarity_transform(TEMPLATE, target), expected, rtol=1e-6, atol=1e-6)


def test_mirrored_points_are_not_reflected():
    matrix = similarity_transform(TEMPLATE * [-1, 1], TEMPLATE)
    assert np.linalg.det(matrix[:, :2]) >= 0
    np.testing.assert_allclose(matrix, least_squares(TEMPLATE * [-1, 1], TEMPLATE), atol=1e-9)


def test_template_sizes_by_hand():
    np.testing.assert_array_equal(template((112, 112)), TEMPLATE)
    narrow = [(30.2946, 51.6963), (65.5318, 51.5014), (48.0252, 71.7366), (33.5493, 92.3655), (62.7299, 92.2041)]
    np.testing.assert_allclose(template((112, 96)), narrow, atol=1e-12)
    np.testing.assert_allclose(template((224, 224)), 2 * TEMPLATE)
    np.testing.assert_allclose(template((224, 192)), 2 * np.array(narrow))
    np.testing.assert_allclose(template((112, 128))[:, 0], TEMPLATE[:, 0] + 8)


def test_template_is_not_shared_with_callers():
    template()[:] = 0
    assert TEMPLATE[0, 0] == 38.2946


def test_landmarks_on_the_template_leave_the_pixels_as_they_are():
    image = np.random.default_rng(0).integers(0, 256, (150, 140, 3), dtype=np.uint8)
    before = image.copy()
    np.testing.assert_array_equal(align(image, TEMPLATE), image[:112, :112])
    np.testing.assert_array_equal(image, before)


def test_half_a_pixel_is_the_mean_of_two():
    image = np.random.default_rng(0).integers(0, 256, (120, 120, 3), dtype=np.uint8)
    crop = align(image, TEMPLATE + np.array([0.5, 0])).astype(float)
    expected = (image[:112, :112].astype(float) + image[:112, 1:113]) / 2
    np.testing.assert_allclose(crop, expected, atol=0.51)


@pytest.mark.parametrize("size", [(112, 112), (112, 96), (224, 224)])
@pytest.mark.parametrize(("angle", "scale"), [(0.0, 1.0), (0.4, 2.3), (-1.2, 1.4), (3.0, 3.0)])
def test_dots_at_the_landmarks_come_to_lie_on_the_template(size, angle, scale):
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = (TEMPLATE - 56) @ turn.T + [300, 280]
    y, x = np.mgrid[:600, :600]
    for point, expected in zip(landmarks, template(size), strict=True):
        blob = 255 * np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * (3 * scale) ** 2))
        crop = align(np.repeat(blob[..., None].astype(np.uint8), 3, axis=2), landmarks, size)
        assert crop.shape == (*size, 3)
        assert crop.dtype == np.uint8
        weight = crop[..., 0].astype(float)
        rows, columns = np.indices(weight.shape)
        centre = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
        np.testing.assert_allclose(centre, expected, atol=0.1)


def test_outside_the_image_is_black_and_channels_keep_their_order():
    image = np.full((60, 60, 3), (10, 20, 30), np.uint8)
    crop = align(image, TEMPLATE - 52)  # the image covers x and y from 52 to 111
    assert not crop[:51].any()
    assert not crop[:, :51].any()
    assert crop[80, 80].tolist() == [10, 20, 30]


def test_non_contiguous_images_are_taken():
    image = np.random.default_rng(0).integers(0, 256, (150, 140, 3), dtype=np.uint8)
    np.testing.assert_array_equal(align(image[..., ::-1], TEMPLATE), image[:112, :112, ::-1])


def test_opencv_finds_the_same_transform_without_outliers():
    random = np.random.default_rng(1)
    source = TEMPLATE * 1.7 + random.normal(size=(5, 2)) * 0.5 + 20
    estimated, _ = cv2.estimateAffinePartial2D(source, TEMPLATE, method=cv2.RANSAC, ransacReprojThreshold=100)
    np.testing.assert_allclose(similarity_transform(source, TEMPLATE), estimated, atol=1e-3)


IMAGE = np.zeros((50, 50, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "landmarks", "size", "message"),
    [
        (IMAGE, TEMPLATE[:4], (112, 112), r"\(4, 2\), align takes \(5, 2\)"),
        (IMAGE, TEMPLATE.ravel(), (112, 112), r"\(10,\), expected \(N, 2\)"),
        (IMAGE, TEMPLATE.T, (112, 112), r"\(2, 5\), expected \(N, 2\)"),
        (IMAGE, np.where(TEMPLATE > 92.3, np.nan, TEMPLATE), (112, 112), "finite"),
        (IMAGE, np.where(TEMPLATE > 92.3, np.inf, TEMPLATE), (112, 112), "finite"),
        (IMAGE, np.full((5, 2), 7.5), (112, 112), r"all points are at \(7.5, 7.5\)"),
        (IMAGE, [["a", "b"]] * 5, (112, 112), "not an array of numbers"),
        (IMAGE, [[1, 2], [3]], (112, 112), "not an array of numbers"),
        (IMAGE.astype(np.float32), TEMPLATE, (112, 112), "float32"),
        (IMAGE[..., 0], TEMPLATE, (112, 112), r"\(50, 50\)"),
        (IMAGE[:0], TEMPLATE, (112, 112), r"\(0, 50, 3\)"),
        (IMAGE, TEMPLATE, (0, 112), "crop size 0x112"),
        (IMAGE, TEMPLATE, (112, 100_000), "crop size 112x100000"),
    ],
)
def test_bad_input_is_a_user_error(image, landmarks, size, message):
    with pytest.raises(UserError, match=message):
        align(image, landmarks, size)


def test_unequal_numbers_of_points():
    with pytest.raises(UserError, match="source has 5 points and target 4"):
        similarity_transform(TEMPLATE, TEMPLATE[:4])
