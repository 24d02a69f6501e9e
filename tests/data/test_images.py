from __future__ import annotations

import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from faceprint.data.images import ImageError, check_encoded, decode_image, read_image
from faceprint.data.pixels import InputSpec
from faceprint.data.synthetic import SyntheticFaces
from faceprint.errors import UserError

RED = np.full((10, 20, 3), (200, 30, 10), np.uint8)


def encode(image: np.ndarray, suffix: str) -> bytes:
    return cv2.imencode(suffix, image[..., ::-1])[1].tobytes()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg", ".webp"])
def test_colour_order_is_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"red{suffix}"
    path.write_bytes(encode(RED, suffix))
    image = read_image(path)
    assert image.shape == (10, 20, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - RED).max() <= (0 if suffix in (".png", ".bmp") else 6)


def test_grey_and_alpha_become_three_channels() -> None:
    grey = cv2.imencode(".png", np.full((4, 5), 77, np.uint8))[1].tobytes()
    assert (decode_image(grey, name="g") == 77).all()
    alpha = cv2.imencode(".png", np.full((4, 5, 4), 50, np.uint8))[1].tobytes()
    assert decode_image(alpha, name="a").shape == (4, 5, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_truncated_images_are_refused_at_any_length(suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = encode(noise, suffix)
    for length in range(0, len(data) - 2, 7):
        with pytest.raises(ImageError, match="photo"):
            decode_image(data[:length], name="photo")


def other_decoders(data: bytes) -> list[np.ndarray]:
    return [np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB")), simplejpeg.decode_jpeg(data, "RGB")]


@pytest.mark.parametrize("sampling", ["444", "422", "420"])
@pytest.mark.parametrize("quality", [30, 95])
def test_jpeg_decoders_agree_to_the_last_bit(sampling: str, quality: int) -> None:
    """OpenCV's build of libjpeg-turbo upsamples and transforms as those of Pillow and simplejpeg do."""
    image = SyntheticFaces(1, 1)[0][0][..., ::-1]
    factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}")
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
    for pixels in (image, image[:, :, 1]):
        data = cv2.imencode(".jpg", pixels, options)[1].tobytes()
        made = decode_image(data, name="x")
        assert all((other == made).all() for other in other_decoders(data))


def test_exif_rotation_is_applied_and_cmyk_becomes_rgb() -> None:
    image = Pillow.fromarray(SyntheticFaces(1, 1, size=(64, 48))[0][0])
    exif = Pillow.Exif()
    exif[0x0112] = 6  # turn a quarter to the right
    upright, turned, cmyk = io.BytesIO(), io.BytesIO(), io.BytesIO()
    image.save(upright, "JPEG", quality=95)
    image.save(turned, "JPEG", quality=95, exif=exif)
    plain = decode_image(upright.getvalue(), name="x")
    assert (decode_image(turned.getvalue(), name="x") == np.rot90(plain, -1)).all()
    image.convert("CMYK").save(cmyk, "JPEG", quality=95)
    made = decode_image(cmyk.getvalue(), name="x")
    assert made.shape == (64, 48, 3)
    assert np.abs(made.astype(int) - plain).mean() < 12


def test_other_files_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("not an image")
    with pytest.raises(ImageError, match=r"notes\.jpg: not an image"):
        read_image(text)
    with pytest.raises(ImageError, match=r"absent\.jpg: cannot be read"):
        read_image(tmp_path / "absent.jpg")
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has neither pipes nor devices in folders")
def test_what_never_ends_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zeros.jpg").symlink_to("/dev/zero")
    with (tmp_path / "huge.jpg").open("wb") as huge:
        huge.truncate(1 << 40)
    for name, words in (("pipe", "no plain file"), ("zeros", "no plain file"), ("huge", "1,099,511,627,776 bytes")):
        with pytest.raises(ImageError, match=words):
            read_image(tmp_path / f"{name}.jpg")


def test_a_small_file_that_declares_a_huge_image_is_refused_before_decoding() -> None:
    png = bytearray(encode(RED, ".png"))
    png[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(ImageError, match="60000x60000"):
        decode_image(bytes(png), name="bomb")
    jpeg = bytearray(encode(RED, ".jpg"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(ImageError, match="65535x65535"):
        decode_image(bytes(jpeg), name="bomb")


def pillow_bytes(image: Pillow.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)  # pyright: ignore[reportArgumentType]
    return out.getvalue()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_the_size_in_the_header_is_that_of_the_pixels(suffix: str) -> None:
    assert check_encoded(encode(RED, suffix), name="x") == (20, 10)


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}])
def test_every_webp_states_its_size(options: dict[str, object]) -> None:
    """Its three layouts: lossy, lossless, extended."""
    assert check_encoded(pillow_bytes(Pillow.fromarray(RED), "WEBP", **options), name="x") == (20, 10)


def test_what_libjpeg_passes_over_hides_no_size() -> None:
    jpeg = encode(RED, ".jpg")
    frame = jpeg.index(b"\xff\xc0")
    for extra in (b"\xff\xff", b"rubbish\xff\x00", b"\xff\x01"):
        data = jpeg[:frame] + extra + jpeg[frame:]
        assert check_encoded(data, name="x") == (20, 10)
        assert decode_image(data, name="x").shape == (10, 20, 3)
    assert check_encoded(jpeg[: frame + 2] + b"\xff\xd9", name="x") is None


def test_a_small_file_is_no_gigabytes_of_pixels() -> None:
    """Each would decode to 805 MB, by libraries that OpenCV brings."""
    large = Pillow.new("L", (16383, 16383))
    webp = pillow_bytes(large.convert("RGB"), "WEBP", lossless=True, method=0, quality=0)
    assert len(webp) < 100
    for data in (webp, b"GIF89a" + b"\xff\x3f" * 2 + bytes(20)):
        with pytest.raises(ImageError, match="16383x16383 pixels"):
            decode_image(data, name="bomb")


@pytest.mark.parametrize("kind", ["TIFF", "JPEG2000", "PPM"])
def test_kinds_whose_size_only_a_decoder_tells_are_refused(kind: str) -> None:
    with pytest.raises(ImageError, match="photo: not an image of a known kind"):
        decode_image(pillow_bytes(Pillow.fromarray(RED), kind), name="photo")


def test_a_gif_that_is_called_jpg_is_read() -> None:
    made = decode_image(pillow_bytes(Pillow.fromarray(RED), "GIF"), name="x")
    assert (made == RED).all()


@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF"]))
def test_any_bytes_are_an_image_or_a_clear_error(data: bytes, magic: bytes) -> None:
    try:
        image = decode_image(magic + data, name="x")
    except ImageError:
        return
    assert image.ndim == 3


def test_input_spec_prepares_by_the_formula() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 3, 3), dtype=np.uint8)
    for colour, order in (("rgb", [0, 1, 2]), ("bgr", [2, 1, 0])):
        spec = InputSpec(size=(4, 3), colour=colour, mean=10.0, std=4.0)  # pyright: ignore
        made = spec.prepare(images)
        assert made.dtype == np.float32
        assert made.shape == (2, 3, 4, 3)
        for b, c, y, x in np.ndindex(2, 3, 4, 3):
            assert made[b, c, y, x] == pytest.approx((int(images[b, y, x, order[c]]) - 10.0) / 4.0)


def test_input_spec_names_a_wrong_size() -> None:
    with pytest.raises(UserError, match=r"a\.jpg: got 10x20x3 uint8, the network takes 112x112x3.*data align"):
        InputSpec().check(RED, "a.jpg")
