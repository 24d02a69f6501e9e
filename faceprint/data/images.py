"""Encoded images from outside: read, checked and decoded to uint8 RGB in one place."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from faceprint.errors import UserError

Image = NDArray[np.uint8]
"""An image: uint8, (height, width, 3), RGB."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_STARTS = ((b"\x89PNG\r\n\x1a\n", ".png"), (b"BM", ".bmp"))
MAX_PIXELS = 64 * 1024 * 1024
"""Larger images are refused before they are decoded: a small hostile file can ask for gigabytes."""
MAX_BYTES = 1 << 29
"""Of one image file; as much as a record holds."""


class ImageError(UserError):
    """A file that cannot be read as an image; the message names it and says why."""


def read_image(path: str | os.PathLike[str]) -> Image:
    """Read one image file as uint8 (H, W, 3) RGB. Raises `ImageError`."""
    return decode_image(read_encoded(path), name=str(path))


def read_encoded(path: str | os.PathLike[str]) -> bytes:
    """The bytes of one image file, not decoded. Raises `ImageError`, also for pipes and devices, and for files of more
    than `MAX_BYTES`: those would never end, or fill the memory."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path}: cannot be read (it is no plain file)")
        if status.st_size > MAX_BYTES:
            raise ImageError(f"{path}: {status.st_size:,} bytes; at most {MAX_BYTES:,} are read")
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error


def files_below(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Path relative to `root`, with forward slashes, and entry of all that is no folder in it and below, in any order.

    Links to folders are followed, but for those that lead back to a folder above them, also above `root`. Raises
    `UserError` for a folder that cannot be listed: its files would be missing without a word.
    """
    parents = tuple(map(str, Path(os.path.realpath(root)).parents))
    folders: list[tuple[str, tuple[str, ...]]] = [("", parents)]
    while folders:
        folder, above = folders.pop()
        real = os.path.realpath(root / folder)
        if real in above:
            continue
        for entry in _entries(root / folder):
            if entry.is_dir():
                folders.append((f"{folder}{entry.name}/", (*above, real)))
            else:
                yield folder + entry.name, entry


def images_below(folder: Path) -> tuple[list[str], int]:
    """Those of `files_below` that are images by their suffix, sorted, and how many other files there are; hidden files
    are neither. Raises as it does."""
    found = [name for name, entry in files_below(folder) if entry.name[0] != "."]
    images = sorted(name for name in found if name.lower().endswith(IMAGE_SUFFIXES))
    return images, len(found) - len(images)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror or error})") from error


def decode_image(data: bytes, *, name: object) -> Image:
    """Decode an encoded image to uint8 (H, W, 3) RGB.

    Grey images are repeated over three channels, alpha is dropped, EXIF rotation is applied. A truncated JPEG
    or PNG is an error: OpenCV would fill the missing part with grey and say nothing. A `.npy` file of uint8 (H, W, 3),
    (H, W, 1) or (H, W), as record files may hold, is taken as RGB or grey. `name`, or what `str` makes of it, stands in
    messages. Raises `ImageError`, also for kinds of which only a decoder tells how large the image is (TIFF, JPEG 2000,
    …): a kilobyte of these can ask for gigabytes.

    JPEG is decoded by libjpeg-turbo, which OpenCV's wheels bring: as fast as simplejpeg and twice as fast as Pillow,
    with the same pixels (benchmarks/loader.py).
    """
    size = check_encoded(data, name=name)
    if data[:6] == b"\x93NUMPY":
        return _decode_npy(data, name)
    if size is None:
        raise ImageError(f"{name}: not an image of a known kind; known are JPEG, PNG, BMP, WebP and GIF")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise ImageError(f"{name}: not an image that OpenCV can decode ({error.err})") from error
    if image is None:
        raise ImageError(f"{name}: not an image that OpenCV can decode")
    return image.astype(np.uint8, copy=False)


def check_encoded(data: bytes, *, name: object) -> tuple[int, int] | None:
    """What can be said of an encoded image without decoding it: (width, height), None where its kind does not say.

    Raises `ImageError` where it is empty, truncated, or has more pixels than are read.
    """
    if not data:
        raise ImageError(f"{name}: the file is empty")
    if _is_truncated(data):
        raise ImageError(f"{name}: the image is truncated (its end marker is missing)")
    size = _declared_size(data)
    if size and size[0] * size[1] > MAX_PIXELS:
        raise ImageError(f"{name}: {size[0]}x{size[1]} pixels; at most {MAX_PIXELS:,} are read")
    return size


def suffix_of(data: bytes) -> str:
    """What the name of a file with this encoded image ends in, by its first bytes; ".jpg" where they do not say."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for start, suffix in _STARTS if data.startswith(start)), ".jpg")


# The header that np.save writes, matched rather than evaluated: a hostile one can ask for any size and type.
_NPY = re.compile(
    rb"\x93NUMPY[\x01-\x03]\x00.{2,4}?\{'descr': '\|u1', 'fortran_order': (False|True), "
    rb"'shape': \(([0-9]{1,5}), ([0-9]{1,5})(?:, ([13]))?\), \} *\n",
    re.DOTALL,
)


def _decode_npy(data: bytes, name: object) -> Image:
    header = _NPY.match(data)
    if header is None:
        raise ImageError(f"{name}: a .npy file of another kind than uint8 (height, width, 3 or 1)")
    height, width, channels = (int(group or b"1") for group in header.groups()[1:])
    content = np.frombuffer(data, np.uint8, offset=header.end())
    if content.size != height * width * channels or not content.size:
        raise ImageError(f"{name}: a .npy file of {height}x{width}x{channels} with {content.size} bytes of content")
    order = "F" if header[1] == b"True" else "C"
    image = content.reshape((height, width, channels), order=order)
    return np.ascontiguousarray(np.broadcast_to(image, (height, width, 3)))


def _is_truncated(data: bytes) -> bool:
    if data[:2] == b"\xff\xd8":  # JPEG: the end marker follows the last scan; thumbnails have earlier ones
        if data[-2:] == b"\xff\xd9":  # as nearly all end, and the quicker to see
            return False
        return data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return data.rfind(b"IEND") < 0
    return False


def _declared_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) as the header of a PNG, JPEG, BMP, WebP or GIF states them; None where it does not say."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data[:2] == b"BM" and len(data) >= 26:
        width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
        return abs(width), abs(height)
    if data[:2] == b"\xff\xd8":
        return _jpeg_size(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        return _webp_size(data)
    if data[:4] == b"GIF8" and len(data) >= 10:
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    return None


_MARKER = re.compile(rb"\xff([^\x00\xff])")


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """As libjpeg finds it, which passes over what lies between segments, and over 0xff before a marker."""
    at = 2
    while found := _MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a start-of-frame segment
            height, width = data[at + 3 : at + 5], data[at + 5 : at + 7]
            return (int.from_bytes(width, "big"), int.from_bytes(height, "big")) if len(width) == 2 else None
        if marker != 0x01 and not 0xD0 <= marker <= 0xD9:  # all others have a length
            at += int.from_bytes(data[at : at + 2], "big")
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Of its first chunk, which is the canvas, or the one frame: RFC 9649, sections 2.5 to 2.7."""
    kind, content = data[12:16], data[20:30]
    if kind == b"VP8X":
        return int.from_bytes(content[4:7], "little") + 1, int.from_bytes(content[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(content[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(content[6:8], "little") & 0x3FFF, int.from_bytes(content[8:10], "little") & 0x3FFF
    return None
