"""The face of a photograph, cropped as networks expect it."""

from __future__ import annotations

import os

from faceprint.data.crops import cut
from faceprint.data.detection import YuNet
from faceprint.data.images import Image, ImageError, read_image


def crop_face(path: str | os.PathLike[str], detector: YuNet, size: tuple[int, int], choose: str = "largest") -> Image:
    """The face in the photograph `path`, upright and to scale: uint8 (height, width, 3) RGB of `size`.

    Its landmarks are measured in a close-up, as `data align` does with this detector: training saw such crops.
    `choose` is a rule of `CHOOSERS` for photographs of several people. Raises `ImageError` where the photograph
    cannot be read or shows no face.
    """
    image = read_image(path)
    faces = detector.detect(image)
    if not faces:
        raise ImageError(f"{path}: no face found in it")
    return cut(detector, image, faces, size=size, choose=choose, close_up=True)[0]
