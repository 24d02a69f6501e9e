"""Light and camera: from painted shapes to the pixels of a photograph."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from faceprint.data.images import Image
from faceprint.data.synthetic_drawing import FLAT, NOSE_LIFT, Colour, Layer, View, ellipse, mix, pair
from faceprint.data.synthetic_face import Face, draw
from faceprint.data.synthetic_traits import Conditions, Identity

_ONE = 128  # a factor of one, in 8-bit images that hold factors
_PLAIN: Colour = (_ONE, _ONE, _ONE)
_NOISE_SLACK = 64  # pixels by which a noise pattern is larger than the image, to be taken from anywhere


def photograph(who: Identity, how: Conditions, size: tuple[int, int]) -> Image:
    """Person `who` under conditions `how`, aligned: uint8 (height, width, 3) RGB."""
    height, width = size
    face = Face.of(who, how)
    view = View(who, how, face.landmarks(), size)
    # painted at twice the size, for smooth edges
    canvas = cv2.resize(how.backdrop.astype(np.uint8), (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
    draw(face).paint(canvas, view, 2)
    image = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    # light and relief are smooth: half the size does
    shading = np.full(((height + 1) // 2, (width + 1) // 2, 3), _ONE, np.uint8)
    _relief(face).paint(shading, view, 0.5)
    shading = cv2.blur(cv2.blur(shading, (3, 3)), (3, 3))
    shading = cv2.multiply(shading, cv2.cvtColor(_light(view, how, size), cv2.COLOR_GRAY2RGB), scale=1 / _ONE)
    image = cv2.multiply(image, cv2.resize(shading, (width, height)), scale=1 / _ONE)
    return _camera(image, how)


def _relief(face: Face) -> Layer:
    """Soft shades that follow the face's forms: factors to multiply with, `_ONE` being one."""
    who, how = face.who, face.how
    relief = Layer()
    dark, light, red = (106, 96, 92), (140, 140, 140), (136, 114, 114)
    socket = ellipse(complex(who.eye_spacing - 2, who.eye_height - 3), 10, 7)
    cheek = ellipse(complex(who.face_width * 0.58, who.nose_length + 3), 10, 8)
    relief.add(pair(socket), mix(_PLAIN, dark, 0.3 + who.eye_socket))
    relief.add(pair(cheek), mix(_PLAIN, red, who.cheeks + 0.5 * max(how.make_up, 0)))
    side = -1 if how.light_x > 0 else 1  # the nose's far side lies in shadow
    top, bottom = 1j * who.eye_height, complex(side * who.nose_width * 1.1, who.nose_length + 1)
    edge = side * who.nose_bridge
    relief.add(np.array([top + edge, top + 2.2 * edge, bottom, edge + 1j * who.nose_length]), dark, 3)
    relief.add(ellipse(complex(who.nose_skew, who.nose_length - 1), 2.5, 2.5), light, NOSE_LIFT - 1)
    relief.add(ellipse(1j * (who.nose_length + 4), who.nose_width, 1.8), dark, 3)
    relief.add(ellipse(1j * (who.mouth_height + who.lower_lip + 3.5), 8, 1.8), dark)
    relief.add(ellipse(1j * (who.chin - 6), 8, 5), light, FLAT)
    return relief


def _light(view: View, how: Conditions, size: tuple[int, int]) -> Image:
    """Lambert's law on the head's ellipsoid under one lamp: factors at half the size, `_ONE` being one."""
    x, y = _half_grid(size)
    a, b, _ = view.axes
    u, v = (x - view.centre.real) / (a * view.scale), (y - view.centre.imag) / (b * view.scale)
    square = u**2 + v**2
    w = np.sqrt(np.maximum(1 - square, 0.1))
    lamp = np.sqrt(1 + how.light_x**2 + how.light_y**2)
    cosine = (u * how.light_x + v * how.light_y + w) / (lamp * np.sqrt(np.maximum(square, 1)))
    factor = 1 + how.light_contrast * (np.maximum(cosine, -0.2) - 0.85)
    return (factor * _ONE).astype(np.uint8)


@lru_cache
def _half_grid(size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    y, x = np.ogrid[0 : size[0] : 2, 0 : size[1] : 2]
    return x.astype(np.float32) + 0.5, y.astype(np.float32) + 0.5


def _camera(image: MatLike, how: Conditions) -> Image:
    height, width = image.shape[:2]
    image = cv2.transform(image, _colour_matrix(how))
    if how.coarseness > 0.25:
        coarse = int(width / (1 + how.coarseness)), int(height / (1 + how.coarseness))
        image = cv2.resize(cv2.resize(image, coarse, interpolation=cv2.INTER_AREA), (width, height))
    top, left = int(how.noise_y * _NOISE_SLACK), int(how.noise_x * _NOISE_SLACK)
    noise = _noise(height, width)[top : top + height, left : left + width]
    image = cv2.addWeighted(image, 1, noise, how.noise, -128 * how.noise)
    if how.compression > 0.2:
        image = _compressed(image, quality=int(90 - 75 * how.compression))
    return image.astype(np.uint8, copy=False)


def _compressed(image: MatLike, quality: int) -> MatLike:
    # the channels stand in the wrong order for JPEG, there and back: its losses are much the same
    decoded = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def _colour_matrix(how: Conditions) -> NDArray[np.float64]:
    """Exposure, colour of the light, saturation and contrast as one affine map of RGB: (3, 4)."""
    gain = np.exp(how.exposure) * np.array([[1 + how.warmth], [1.0], [1 - how.warmth]])
    keep, slope = 1 + how.saturation, 1 + how.contrast
    grey = np.array([0.299, 0.587, 0.114])
    linear = slope * gain * (keep * np.eye(3) + (1 - keep) * grey)
    return np.column_stack([linear, np.full(3, 110 * (1 - slope))])


@lru_cache
def _noise(height: int, width: int) -> Image:
    rng = np.random.Generator(np.random.Philox(key=0))
    shape = height + _NOISE_SLACK, width + _NOISE_SLACK, 3
    return np.clip(128 + 36 * rng.standard_normal(shape), 0, 255).astype(np.uint8)
