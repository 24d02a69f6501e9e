"""`.bin` verification sets, the pickles in which LFW, CFP-FP, AgeDB-30 and others are passed around.

Layout: a pickle of `(images, same)`; pair i is `images[2 i]`, `images[2 i + 1]`, each an encoded image.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceprint.data.safe_pickle import PlainArray, read_plain
from faceprint.errors import UserError
from faceprint.files import write_whole

MAX_BYTES = 1 << 32
"""Larger files are refused: a set of 6,000 pairs has some 100 MB, and all of it lies in memory."""


def read_bin(path: str | os.PathLike[str]) -> tuple[list[bytes], NDArray[np.bool_]]:
    """Read a verification set: 2 P encoded images, for `decode_image`, and `same` (P,), true for one person.

    Any pickle protocol, by Python 2 or 3; images as byte strings or uint8 arrays, flags as bools or 0/1, also
    in NumPy's forms. The pickle is read without being run, the images are not decoded. Raises `UserError` for
    anything else in it.
    """
    try:
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file; give a .bin verification set")
        if (size := Path(path).stat().st_size) > MAX_BYTES:
            raise UserError(f"{path}: {size} bytes; a verification set is read whole, up to {MAX_BYTES} bytes")
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    value = read_plain(data, str(path))
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise UserError(f"{path}: holds a {type(value).__name__}, not the pair (images, same) of a verification set")
    images, same = _encoded_images(value[0], path), _flags(value[1], path)
    if not images or len(images) != 2 * len(same):
        raise UserError(f"{path}: {len(images)} images and {len(same)} flags; each pair has two images and a flag")
    return images, same


def write_bin(path: str | os.PathLike[str], images: Sequence[bytes], same: ArrayLike) -> None:
    """Write 2 P encoded `images` and `same` (P,) as a verification set that the published loaders read.

    Raises `UserError` where the numbers do not fit, an image is empty, or `path` cannot be written. The file
    appears whole or not at all.
    """
    flags = np.asarray(same)
    if flags.ndim != 1 or not np.isin(flags, (0, 1)).all():
        raise UserError("same must be a list of true/false or 1/0, one for each pair")
    if not len(flags) or len(images) != 2 * len(flags):
        raise UserError(f"{len(flags)} pairs and {len(images)} images; each pair has two images")
    encoded = [bytes(image) for image in images]
    if not all(encoded):
        raise UserError(f"image {encoded.index(b'')} is empty")
    value = (encoded, [bool(flag) for flag in flags])
    write_whole(Path(path), pickle.dumps(value, protocol=4))


def _encoded_images(entries: Any, path: str | os.PathLike[str]) -> list[bytes]:
    if not isinstance(entries, (list, tuple)):
        raise UserError(f"{path}: the images are a {type(entries).__name__}, not a list")
    images: list[bytes] = []
    for number, entry in enumerate(entries):
        content = entry.content if isinstance(entry, PlainArray) and entry.dtype == np.uint8 else entry
        if not isinstance(content, bytes):
            raise UserError(f"{path}: image {number} is a {type(entry).__name__}, not the bytes of an encoded image")
        images.append(content)
    return images


def _flags(entries: Any, path: str | os.PathLike[str]) -> NDArray[np.bool_]:
    flags = entries.values() if isinstance(entries, PlainArray) else entries
    if not isinstance(flags, (list, tuple)) or not all(isinstance(flag, int) and flag in (0, 1) for flag in flags):
        raise UserError(f"{path}: the flags that mark pairs of one person must be a list of true/false or 1/0")
    return np.array(flags, np.bool_)
