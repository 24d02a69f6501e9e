"""What a generated image is made of: who is drawn (`Identity`) and how (`Conditions`). Numbers, no pixels."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import lru_cache
from math import sqrt
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]
_Kind: TypeAlias = "type[Identity] | type[Conditions]"

_WHO, _HOW = 0, 1  # the two streams of random numbers


def _range(low: float, high: float, rest: float = 0.0) -> Any:
    """A field drawn evenly from low .. high; `rest` is its value where nothing varies (difficulty 0)."""
    return field(metadata={"range": (low, high, rest)})


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What stays from image to image: one face.

    Lengths are pixels of a 112x112 crop, places down from the face's centre, angles radians, jaw_squareness the
    exponent of a superellipse, tones places 0 .. 1 on a palette; the rest runs from none at 0 to strong at 1, and
    where it begins below 0 some people have none. The order of the fields is part of who is drawn.
    """

    face_width: float = _range(34, 42.5)
    chin: float = _range(44, 55)
    skull: float = _range(52, 58)
    jaw_squareness: float = _range(1.75, 2.9)
    jaw_taper: float = _range(0, 0.2)
    chin_cleft: float = _range(-1.6, 1)
    cheeks: float = _range(0, 1)
    age: float = _range(0, 1)

    skin_tone: float = _range(0, 1)
    skin_warmth: float = _range(-1, 1)
    freckles: float = _range(-4, 1)
    beard: float = _range(-1.4, 1)
    beard_width: float = _range(0, 1)
    moustache: float = _range(-1.6, 1)

    hair_tone: float = _range(0, 1)
    hair_length: float = _range(-0.1, 1)
    hair_volume: float = _range(2, 10)
    hair_curl: float = _range(-0.8, 1)
    hairline: float = _range(-49, -36)
    hairline_peak: float = _range(-3, 6)
    hairline_temples: float = _range(0, 9)
    parting: float = _range(-0.22, 0.22)

    ear_size: float = _range(6.5, 10)
    ear_spread: float = _range(0, 4)

    eye_spacing: float = _range(15, 20)
    eye_height: float = _range(-12, -6.5)
    eye_width: float = _range(5.2, 8.2)
    eye_opening: float = _range(2, 4.2)
    eye_tilt: float = _range(-0.16, 0.2)
    eye_tone: float = _range(0, 1)
    eye_socket: float = _range(0, 1)
    lid_crease: float = _range(-0.5, 1)

    brow_gap: float = _range(5.3, 10.5)
    brow_length: float = _range(7, 11.5)
    brow_thickness: float = _range(0.6, 2.8)
    brow_angle: float = _range(-0.2, 0.22)
    brow_arch: float = _range(0, 3)
    brow_tone: float = _range(0, 0.6)

    nose_length: float = _range(7.5, 16)
    nose_width: float = _range(4.2, 8.8)
    nose_bridge: float = _range(1.4, 3.6)
    nose_upturn: float = _range(0, 1)
    nose_skew: float = _range(-1.2, 1.2)

    mouth_height: float = _range(27.5, 34.5)
    mouth_width: float = _range(10, 17)
    mouth_curve: float = _range(-1.6, 1.6)
    mouth_skew: float = _range(-1, 1)
    upper_lip: float = _range(0.8, 4)
    lower_lip: float = _range(1.5, 5.4)
    cupid_bow: float = _range(0, 1)
    lip_redness: float = _range(0.1, 0.75)

    marks: _Floats
    """(M, 4), 0 .. 1: across, down, size, and whether mark m is there at all."""

    @staticmethod
    def of(seed: int, number: int) -> Identity:
        """Person `number` of the people of `seed`: the same person in any data set, on any call."""
        rng = _generator(seed, number, 0, _WHO)
        return Identity(**_drawn(Identity, rng, 1.0), marks=rng.random((8, 4)))


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What changes from image to image: pose, expression, light, things worn, camera.

    Units are those of `Identity`; light, warmth, exposure (of e), contrast, saturation and noise are factors beside
    1, coarseness what is lost of the resolution. The ranges hold at difficulty 1 and shrink with its square root.
    Glasses, hats, covers and compression are there above 0.2.
    """

    yaw: float = _range(-0.54, 0.54)
    pitch: float = _range(-0.32, 0.32)
    roll: float = _range(-0.11, 0.11)
    zoom: float = _range(-0.09, 0.09)
    shift_x: float = _range(-4.4, 4.4)
    shift_y: float = _range(-4.4, 4.4)

    smile: float = _range(-0.9, 1.2)
    mouth_open: float = _range(-0.5, 0.8)
    brow_raise: float = _range(-1.2, 2)
    frown: float = _range(-0.08, 0.22)
    eyes_closed: float = _range(-0.3, 0.8)
    gaze_x: float = _range(-0.8, 0.8)
    gaze_y: float = _range(-0.8, 0.8)
    unshaved: float = _range(-0.25, 0.25)
    hair_down: float = _range(-0.28, 0.28)
    hair_fall: float = _range(-3.5, 5)
    hair_dye: float = _range(-0.18, 0.18)
    tan: float = _range(-0.16, 0.16)
    make_up: float = _range(-0.6, 0.9)

    light_x: float = _range(-1, 1)
    light_y: float = _range(-0.8, 0.4, -0.25)
    light_contrast: float = _range(0.1, 0.9, 0.3)
    warmth: float = _range(-0.28, 0.28)
    exposure: float = _range(-0.66, 0.45)
    contrast: float = _range(-0.45, 0.3)
    saturation: float = _range(-0.7, 0.35)

    glasses: float = _range(-2, 1)
    hat: float = _range(-2, 1)
    cover: float = _range(-3, 1)
    cover_angle: float = _range(0, 100)  # many turns: any difficulty reaches every side

    coarseness: float = _range(0, 1.8)
    noise: float = _range(0, 0.4)
    noise_x: float = _range(0, 1)
    noise_y: float = _range(0, 1)
    compression: float = _range(-1, 1)

    backdrop: _Floats
    """(3, 3, 3), RGB 0 .. 255: what is behind, as nine colours that run into each other."""
    colours: _Floats
    """(2, 3), RGB 0 .. 255: clothes and hats."""

    def colour(self, number: int) -> tuple[float, float, float]:
        r, g, b = self.colours[number].tolist()
        return r, g, b

    @staticmethod
    def of(seed: int, number: int, image: int, difficulty: float) -> Conditions:
        """Those of image `image` of person `number`: with `difficulty` they grow, in the same directions."""
        rng = _generator(seed, number, image, _HOW)
        amount = sqrt(difficulty)  # what is seen grows quickly at first
        colours = 128 + amount * 200 * (rng.random((11, 3)) - 0.5)
        backdrop, colours = colours[:9].reshape(3, 3, 3), colours[9:]
        return Conditions(**_drawn(Conditions, rng, amount), backdrop=backdrop, colours=colours)


def _generator(seed: int, number: int, image: int, stream: int) -> np.random.Generator:
    # Philox makes random numbers of a key and a counter: any image is reached without drawing the ones before.
    # The counter's first word is the one that counts on.
    counter = np.array([0, image, number, stream], np.uint64)
    return np.random.Generator(np.random.Philox(key=seed, counter=counter))


def _drawn(kind: _Kind, rng: np.random.Generator, amount: float) -> dict[str, float]:
    names, low, high, rest = _ranges(kind)
    values = rest + amount * (low + (high - low) * rng.random(len(names)) - rest)
    return dict(zip(names, values.tolist(), strict=True))


@lru_cache
def _ranges(kind: _Kind) -> tuple[list[str], _Floats, _Floats, _Floats]:
    ranged = [each for each in fields(kind) if "range" in each.metadata]
    low, high, rest = np.array([each.metadata["range"] for each in ranged]).T
    return [each.name for each in ranged], low, high, rest
