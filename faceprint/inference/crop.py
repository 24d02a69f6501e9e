"""The face of a photograph, cropped as networks expect it."""

from __future__ import annotations

import os

from faceprint.data.alignment import align
from faceprint.data.detection import YuNet, choose_face
from faceprint.data.images import Image, ImageError, read_image


def crop_face(path: str | os.PathLike[str], detector: YuNet, size: tuple[int, int], choose: str = "largest") -> Image:
    """The face in the photograph `path`, upright and to scale: uint8 (height, width, 3) RGB of `size`.

    `choose` is a rule of `CHOOSERS` for photographs of several people. Raises `ImageError` where the photograph
    cannot be read or shows no face.
    """
    image = read_image(path)
    faces = detector.detect(image)
    if not faces:
        raise ImageError(f"{path}: no face found in it")
    return align(image, choose_face(faces, image.shape[:2], choose).landmarks, size)
