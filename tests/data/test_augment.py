"""Each augmentation by its formula, by OpenCV, or by plain loops."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from faceprint.config import AUGMENT_PRESETS, Augment
from faceprint.data.augment import Augmentation, luminance
from faceprint.data.face_mask import draw_masks
from faceprint.data.jpeg_quality import jpeg
from faceprint.data.resampling import INTERPOLATIONS, blur_matrices, low_resolution_matrices, resize_matrix, separable
from faceprint.data.synthetic import SyntheticFaces
from faceprint.errors import UserError

PARTS = ("mask", "crop", "low_res", "grey", "blur", "jpeg", "erase")


def faces(count: int = 8, size: tuple[int, int] = (112, 112)) -> Tensor:
    source = SyntheticFaces(count, 1, size=size)
    return torch.from_numpy(np.stack([source[index][0] for index in range(count)])).permute(0, 3, 1, 2).float()


def run(augmentation: Augmentation, batch: Tensor, seed: int = 0) -> Tensor:
    return augmentation(batch, torch.Generator().manual_seed(seed))


def noise(count: int = 64) -> Tensor:
    return torch.rand(count, 3, 12, 10, generator=torch.Generator().manual_seed(1)) * 255


@pytest.mark.parametrize("preset", AUGMENT_PRESETS)
def test_presets_keep_shape_and_range_and_follow_the_seed(preset: str) -> None:
    batch = faces(12, (112, 96))
    before = batch.clone()
    augmentation = Augmentation(**Augment(preset=preset).model_dump(exclude={"preset"}))  # pyright: ignore
    made = run(augmentation, batch, 5)
    assert made.shape == batch.shape
    assert made.min() >= 0
    assert made.max() <= 255
    assert torch.equal(batch, before)
    assert torch.equal(made, run(augmentation, batch, 5))
    assert torch.equal(made, run(augmentation, batch, 6)) == (preset == "none")
    channels_last = run(augmentation, batch.contiguous(memory_format=torch.channels_last), 5)
    assert (channels_last - made).abs().mean() < 0.05  # a rounding of JPEG may fall on the other side


def test_a_given_key_goes_before_the_preset_and_the_resolved_section_is_read_back() -> None:
    made = Augment.model_validate({"preset": "adaface", "crop": 0.5})
    assert (made.crop, made.low_res, made.contrast, made.flip) == (0.5, 0.2, 0.5, 0.5)
    assert Augment.model_validate(made.model_dump(mode="json")) == made
    with pytest.raises(ValueError, match="smaller one"):
        Augment.model_validate({"crop_area": [0.5, 0.2]})


@pytest.mark.parametrize("part", PARTS)
def test_each_part_changes_the_images_it_is_drawn_for_and_no_others(part: str) -> None:
    batch = faces(64, (32, 32))
    assert torch.equal(run(Augmentation(**{"flip": 0.0, part: 0.0}), batch), batch)
    made = run(Augmentation(**{"flip": 0.0, part: 0.3}), batch)
    changed = (made != batch).flatten(1).any(1).sum()
    assert 8 <= changed <= 32
    assert (run(Augmentation(**{"flip": 0.0, part: 1.0}), batch) != batch).flatten(1).any(1).sum() >= 60


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_photometric_probability(name: str) -> None:
    batch = faces(64, (32, 32))
    made = run(Augmentation(**{"flip": 0.0, "photometric": 0.3, name: 0.5}), batch)
    assert 8 <= (made != batch).flatten(1).any(1).sum() <= 32


def ratios(made: Tensor, base: Tensor, centre: Tensor) -> list[float]:
    """Least squares of made - centre = factor (base - centre), each image, where nothing was cut off."""
    found: list[float] = []
    for after, before, middle in zip(made, base, centre, strict=True):
        inside = (after > 0) & (after < 255)
        x, y = (before - middle)[inside], (after - middle)[inside]
        found.append(float((x * y).sum() / (x * x).sum()))
        assert torch.allclose(y, found[-1] * x, atol=0.05)
    return found


def test_brightness_contrast_and_saturation_are_factors_around_black_mean_and_grey() -> None:
    batch = faces(40, (32, 32)) * 0.5 + 60
    zero, grey = torch.zeros_like(batch), luminance(batch).expand_as(batch)
    mean = grey.mean((1, 2, 3), keepdim=True).expand_as(batch)
    for name, centre in (("brightness", zero), ("contrast", mean), ("saturation", grey)):
        factors = ratios(run(Augmentation(**{"flip": 0.0, name: 0.4}), batch), batch, centre)
        assert 0.6 <= min(factors) < 0.75
        assert 1.25 < max(factors) <= 1.4001


def test_hue_turns_the_chrominance_and_keeps_the_luminance() -> None:
    batch = faces(20, (16, 16)) * 0.3 + 90
    made = run(Augmentation(flip=0, hue=0.1), batch)
    assert torch.allclose(luminance(made), luminance(batch), atol=0.01)

    def plane(images: Tensor) -> np.ndarray:
        red, green, blue = images.double().numpy().transpose(1, 0, 2, 3)
        across = 0.595716 * red - 0.274453 * green - 0.321263 * blue
        return across + 1j * (0.211456 * red - 0.522591 * green + 0.311135 * blue)

    for before, after in zip(plane(batch), plane(made), strict=True):
        turn = (after * before.conj()).sum() / (np.abs(before) ** 2).sum()
        assert abs(turn) == pytest.approx(1, abs=1e-4)
        assert abs(math.atan2(turn.imag, turn.real)) <= 0.1 * 2 * math.pi + 1e-4
        assert np.allclose(after, turn * before, atol=0.01)


def test_crop_leaves_a_rectangle_in_its_place_on_black() -> None:
    batch = torch.full((60, 3, 40, 40), 200.0)
    made = run(Augmentation(flip=0, crop=1.0), batch)
    areas: list[float] = []
    for image in made:
        rows, columns = (image[0] > 0).any(1), (image[0] > 0).any(0)
        assert int((image > 0).sum()) == 3 * int(rows.sum() * columns.sum())
        assert (image[image > 0] == 200).all()
        areas.append(float(rows.sum() * columns.sum()) / 1600)
        assert 0.65 < columns.sum() / rows.sum() < 1.55
    assert 0.15 < min(areas) < 0.4
    assert max(areas) > 0.8


def test_crop_and_resize_enlarges_a_part() -> None:
    ramp = torch.arange(40.0).expand(50, 3, 40, 40) + 100
    made = run(Augmentation(flip=0, crop=1.0, crop_mode="resize", crop_area=(0.25, 0.25)), ramp)
    steps = made[:, 0, 20, 21:30].diff().mean(1)  # a ramp of 1 a pixel, enlarged, is one of its width
    assert ((steps > 0.5 * 0.75**0.5 - 0.01) & (steps < 0.5 * (4 / 3) ** 0.5 + 0.01)).all()
    assert made.min() >= 100
    assert made.max() <= 139


CV = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "cubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}


@pytest.mark.parametrize("way", INTERPOLATIONS)
@pytest.mark.parametrize("target", [24, 56, 77, 111])
def test_resizing_is_that_of_opencv(way: str, target: int) -> None:
    image = faces(1)[0, 0].numpy()
    made = resize_matrix(way, 112, target) @ torch.from_numpy(image) @ resize_matrix(way, 112, target).T
    expected = cv2.resize(image, (target, target), interpolation=CV[way])
    assert np.abs(made.numpy() - expected).max() < 0.2
    if way != "area":  # which OpenCV enlarges by rules of its own
        up = resize_matrix(way, target, 112) @ torch.from_numpy(expected) @ resize_matrix(way, target, 112).T
        assert np.abs(up.numpy() - cv2.resize(expected, (112, 112), interpolation=CV[way])).max() < 0.2


def test_low_resolution_is_down_and_up() -> None:
    batch = faces(2)
    matrices = low_resolution_matrices(112, [30, 80], [("area", "cubic"), ("linear", "nearest")])
    made = separable(batch, matrices, matrices)
    for image, small, (down, up), result in zip(
        batch, (30, 80), (("area", "cubic"), ("linear", "nearest")), made, strict=True
    ):
        plane = image.permute(1, 2, 0).numpy()
        smaller = cv2.resize(plane, (small, small), interpolation=CV[down])
        expected = cv2.resize(smaller, (112, 112), interpolation=CV[up])
        assert np.abs(result.permute(1, 2, 0).numpy() - expected).max() < 0.5


def test_blur_is_a_gaussian() -> None:
    image = torch.zeros(2, 1, 31, 31)
    image[:, :, 15, 15] = 1.0
    matrices = blur_matrices(31, torch.tensor([1.0, 2.0]))
    made = separable(image, matrices, matrices)[:, 0]
    for sigma, result in ((1.0, made[0]), (2.0, made[1])):
        for y, x in ((15, 15), (14, 15), (12, 17)):
            density = math.exp(-((y - 15) ** 2 + (x - 15) ** 2) / (2 * sigma**2)) / (2 * math.pi * sigma**2)
            assert float(result[y, x]) == pytest.approx(density, rel=1e-3)
    assert torch.allclose(separable(torch.ones(2, 1, 31, 31), matrices, matrices), torch.ones(2, 1, 31, 31))


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90, 100])
def test_jpeg_is_what_an_encoder_leaves(quality: int) -> None:
    batch = faces(6, (112, 100))
    made = jpeg(batch, torch.full((6,), float(quality))).permute(0, 2, 3, 1).numpy()
    pixels = batch.permute(0, 2, 3, 1).numpy().astype(np.uint8)
    coded = [cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for image in pixels]
    expected = np.stack([cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1] for data in coded]).astype(float)
    error, damage = np.abs(made - expected).mean(), np.abs(pixels - expected).mean()
    assert error < 0.8  # of 255: half-way cases that the encoder's whole numbers round to the other side
    assert quality > 50 or error < 0.25 * damage


def test_a_lower_quality_leaves_less() -> None:
    batch = faces(1).expand(5, -1, -1, -1)
    errors = (jpeg(batch, torch.tensor([10.0, 30, 50, 80, 100])) - batch).abs().mean((1, 2, 3))
    assert (errors.diff() < 0).all()


def test_masks_cover_mouth_and_nose_and_leave_the_eyes() -> None:
    for size in ((112, 112), (112, 96), (56, 56)):
        scale = size[0] / 112
        left = (112 * scale - size[1]) / 2
        batch = faces(20, size)
        made = run(Augmentation(flip=0, mask=1.0), batch)
        changed = (made != batch).any(1)
        for x, y, covered in ((56, 80, True), (42, 92, True), (70, 92, True), (38, 48, False), (74, 48, False)):
            assert changed[:, round(y * scale), round(x * scale - left)].all() == covered, (size, x, y)
        assert 0.2 < changed.float().mean() < 0.5
        colours = made[:, :, round(85 * scale), round(56 * scale - left)]
        assert colours.std(0).min() > 20


def test_a_mask_without_wobble_is_symmetric() -> None:
    grey = torch.full((1, 3, 112, 113), 100.0)
    made = draw_masks(grey, torch.zeros(1, 2, 5), torch.tensor([[200.0, 200.0, 200.0]]))
    covered = (made != grey).any(1)[0]
    middle = 56  # of the eyes, within a pixel
    for reach in range(1, 30):
        assert abs(int(covered[:, middle - reach].sum()) - int(covered[:, middle + reach].sum())) <= 6


def test_an_unknown_preset_lists_the_presets() -> None:
    from faceprint.recipe import load_config

    with pytest.raises(UserError, match=r"augment\.preset.*'robst'.*nearest: 'robust'"):
        load_config("quickstart", ["augment.preset=robst"])


def test_no_augmentation_changes_nothing() -> None:
    assert torch.equal(run(Augmentation(flip=0), noise()), noise())


def test_flip_mirrors_about_half() -> None:
    batch = noise()
    made = run(Augmentation(flip=0.5), batch)
    mirrored = [torch.equal(after, before.flip(2)) for before, after in zip(batch, made, strict=True)]
    same = [torch.equal(after, before) for before, after in zip(batch, made, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 16 <= sum(mirrored) <= 48


def test_geometry_with_zero_amounts_is_the_identity_and_flips_exactly() -> None:
    batch = noise(4)
    made = run(Augmentation(flip=1.0, rotate=1e-9), batch)
    assert torch.allclose(made, batch.flip(3), atol=0.05)


def test_shift_moves_by_at_most_the_stated_fraction() -> None:
    batch = torch.zeros(50, 3, 40, 40)
    batch[:, :, 19:21, 19:21] = 255.0
    made = run(Augmentation(flip=0, shift=0.1), batch)[:, 0]
    rows = (made.sum(2) * torch.arange(40)).sum(1) / made.sum((1, 2))
    columns = (made.sum(1) * torch.arange(40)).sum(1) / made.sum((1, 2))
    for centre in (rows, columns):
        assert (centre - 19.5).abs().max() <= 4.001
        assert (centre - 19.5).abs().max() > 2


def test_grey_is_the_luminance() -> None:
    grey = run(Augmentation(flip=0, grey=1.0), noise())
    assert torch.allclose(grey, luminance(noise()).expand(-1, 3, -1, -1), atol=1e-3)


def test_erase_covers_one_rectangle_with_the_middle_grey() -> None:
    made = run(Augmentation(flip=0, erase=1.0), torch.zeros(30, 3, 40, 30))
    for image in made:
        rows, columns = (image[0] == 127.5).any(1), (image[0] == 127.5).any(0)
        assert (image[:, rows][:, :, columns] == 127.5).all()
        assert 3 <= int(rows.sum()) <= 19
        assert int((image[0] == 127.5).sum()) == int(rows.sum() * columns.sum())
