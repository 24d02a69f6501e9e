"""The parts of a generated face, one function each, in the order in which they are painted."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin

import numpy as np

from faceprint.data.synthetic_drawing import (
    ALONG,
    ARCH,
    BUMP,
    FLAT,
    NOSE_LIFT,
    Colour,
    Layer,
    Points,
    band,
    curve,
    ellipse,
    mirrored,
    mix,
    pair,
    palette,
)
from faceprint.data.synthetic_traits import Conditions, Identity

_SKIN: tuple[Colour, ...] = (
    (250, 222, 200), (240, 198, 166), (222, 172, 134), (184, 130, 92), (134, 90, 62), (92, 62, 48),
)  # fmt: skip
_HAIR: tuple[Colour, ...] = (
    (28, 23, 24), (56, 38, 30), (92, 60, 38), (124, 84, 50), (150, 74, 38), (206, 164, 98), (226, 200, 146),
)  # fmt: skip
_EYES: tuple[Colour, ...] = (
    (48, 28, 18), (96, 60, 32), (128, 104, 52), (84, 124, 88), (86, 134, 176), (130, 146, 158),
)  # fmt: skip
_GREY: Colour = (196, 194, 192)
_BLACK: Colour = (18, 14, 14)
_WHITE: Colour = (255, 255, 255)
_BLOOD: Colour = (170, 44, 52)
_LIP_LIFT = 2.0
_IRIS_PUPIL_GLINT = np.outer([3.1, 1.4, 0.6, 3.1, 1.4, 0.6], ellipse(0, 1, 1))  # of both eyes


@dataclass(frozen=True)
class Face:
    """One face in one picture: who, how, and the colours that follow from both."""

    who: Identity
    how: Conditions
    skin: Colour
    shade: Colour
    hair: Colour

    @staticmethod
    def of(who: Identity, how: Conditions) -> Face:
        r, g, b = palette(_SKIN, who.skin_tone + how.tan)
        skin = r + 5 * who.skin_warmth, g, b - 8 * who.skin_warmth
        # dark skin goes with dark hair, and hair greys with age
        hair = palette(_HAIR, who.hair_tone * (1 - 0.65 * who.skin_tone) + how.hair_dye)
        hair = mix(hair, _GREY, min(max(3.5 * who.age - 2.4, 0), 1))
        return Face(who, how, skin, mix(skin, (70, 20, 20), 0.38), hair)

    @property
    def hair_length(self) -> float:
        """0: none; the bald stay so, others wear theirs up or down."""
        return max(self.who.hair_length + self.how.hair_down, 0.01) if self.who.hair_length > 0 else 0.0

    @property
    def mouth_width(self) -> float:
        return self.who.mouth_width * (1 + 0.1 * self.how.smile - 0.15 * max(self.how.mouth_open, 0))

    def landmarks(self) -> Points:
        """What a detector would find: eyes, nose tip, mouth corners, left before right; (5,)."""
        who = self.who
        eye = complex(who.eye_spacing, who.eye_height)
        corner = complex(self.mouth_width, who.mouth_height - self.how.smile)
        nose = complex(who.nose_skew, who.nose_length)
        return np.array([-eye.conjugate(), eye, nose, -corner.conjugate(), corner])


def draw(face: Face) -> Layer:
    """The face in plain colours, as yet without light."""
    paint = Layer()
    for part in (_body, _hair_behind, _head, _beard, _age, _marks, _mouth, _nose, _eyes, _brows, _hair, _worn, _cover):
        part(face, paint)
    return paint


def _jaw(who: Identity) -> Points:
    """From the left cheekbone over the chin to the right one: half a superellipse that narrows downwards."""
    power = 2 / who.jaw_squareness
    x = np.sign(ARCH.real) * np.abs(ARCH.real) ** power
    y = np.abs(ARCH.imag) ** power
    return who.face_width * x * (1 - who.jaw_taper * y**2) + 1j * who.chin * y


def _crown(who: Identity, swell: float) -> Points:
    """The top of the head from left to right, under `swell` pixels of hair."""
    wave = 1 + 0.04 * max(who.hair_curl, 0) * np.cos(np.arange(len(ARCH)) * (np.pi / 2)) * (swell > 0)
    x = np.sign(ARCH.real) * np.abs(ARCH.real) ** 0.85
    return wave * ((who.face_width + swell) * x - 1j * (who.skull + swell) * np.abs(ARCH.imag) ** 0.85)


def _hairline(face: Face) -> Points:
    who = face.who
    t = ARCH.real
    level = who.hairline + face.how.hair_fall * face.hair_length
    temples = who.hairline_temples * np.exp(-(((np.abs(t) - 0.6) / 0.22) ** 2))
    peak = who.hairline_peak * np.exp(-((t / 0.2) ** 2))
    slant = who.parting * who.face_width * t * (1 - t**2)
    return who.face_width * 1.02 * t + 1j * (level + (2 - level) * np.abs(t) ** 5 + peak - temples + slant)


def _body(face: Face, paint: Layer) -> None:
    paint.add(ellipse(118j, 95, 55), face.how.colour(0), FLAT)
    paint.add(np.array([-24 + 20j, 24 + 20j, 26 + 72j, 80j, -26 + 72j]), mix(face.shade, _BLACK, 0.15), FLAT)


def _hair_behind(face: Face, paint: Layer) -> None:
    who = face.who
    if face.hair_length > 0.35:
        swell = who.hair_volume + 2
        down = 15 + 60 * (face.hair_length - 0.35)
        ends = curve(who.face_width + swell, -6) + 1j * down
        paint.add(band(_crown(who, swell), ends), mix(face.hair, _BLACK, 0.3), FLAT)


def _head(face: Face, paint: Layer) -> None:
    who = face.who
    ear = complex(who.face_width + who.ear_spread - 1.5, 2)
    paint.add(pair(ellipse(ear, who.ear_size * 0.55, who.ear_size * 1.25)), mix(face.skin, face.shade, 0.3), FLAT)
    paint.add(pair(ellipse(ear + 0.5 - 1j, who.ear_size * 0.3, who.ear_size * 0.8)), face.shade, FLAT)
    paint.add(band(_jaw(who), _crown(who, 0)), face.skin, FLAT)


def _beard(face: Face, paint: Layer) -> None:
    who = face.who
    beard, moustache = (growth + face.how.unshaved for growth in (who.beard, who.moustache))
    if beard > 0:
        t = ARCH.real
        cheek = 0.97 * who.face_width * t + 1j * (who.mouth_height - 3) * (1 - np.abs(t) ** (2 + 3 * who.beard_width))
        paint.add(cheek, mix(face.skin, face.hair, min(0.15 + beard, 0.85)), rim=_jaw(who)[::-1])
    if moustache > 0:
        lip = 1j * (who.mouth_height - who.upper_lip)
        hairs = band(curve(who.mouth_width, 4) + lip, curve(who.mouth_width * 1.1, -1.5) + lip)
        paint.add(hairs, mix(face.skin, face.hair, min(0.25 + moustache, 0.9)), _LIP_LIFT)


def _age(face: Face, paint: Layer) -> None:
    """Folds beside the mouth, lines on the forehead; and the cleft of the chin."""
    who = face.who
    tone = mix(face.skin, face.shade, 0.15 + 0.5 * who.age)
    if who.age > 0.35:
        top, bottom = (
            complex(who.nose_width + 2, who.nose_length - 1),
            complex(who.mouth_width + 3, who.mouth_height - 5),
        )
        paint.add(pair(np.array([top, (top + bottom) / 2 + 1.5 - 1j, bottom])), tone, line=0.6)
    for row in range(int(who.age * 4.2) - 1):
        paint.add(curve(14, 1.5) + 1j * (who.eye_height - 16 - 4.5 * row), tone, line=0.5)
    if who.chin_cleft > 0:
        cleft = 1j * (who.chin - 6) + np.array([-2.5j, 1.5j])
        paint.add(cleft, mix(face.skin, face.shade, 0.4 + who.chin_cleft / 2), FLAT, line=0.8)


def _marks(face: Face, paint: Layer) -> None:
    who = face.who
    if who.freckles > 0:
        rows, columns = np.mgrid[-1:2, -5:6].reshape(2, -1)
        places = columns * 4.3 + rows * 1.1 + 1j * (who.nose_length - 3 + rows * 3.2 + columns * 7 % 3)
        dots = places[:, None] + 0.55 * np.array([1, 1j, -1, -1j])
        paint.add(dots, mix(face.skin, (140, 70, 40), 0.25 + 0.3 * who.freckles))
    for across, down, size, present in who.marks.tolist():
        if present > 0.68:
            place = complex((2 * across - 1) * who.face_width * 0.8, 78 * down - 36)
            paint.add(ellipse(place, 0.7 + 1.1 * size, 0.7 + 1.1 * size), mix(face.skin, (70, 30, 24), 0.45 + size / 3))


def _mouth(face: Face, paint: Layer) -> None:
    who, how = face.who, face.how
    gap = 5 * max(how.mouth_open, 0)
    bend = (0.5 * who.mouth_curve + 1.6 * how.smile) * (BUMP - 0.4)
    line = face.mouth_width * ALONG + 1j * bend + complex(who.mouth_skew, who.mouth_height)
    upper, lower = line - 0.35j * gap * BUMP, line + 1j * gap * BUMP
    bow = 0.8 * who.cupid_bow * np.cos(1.8 * np.pi * ALONG) * (np.abs(ALONG) < 0.55)
    lip = mix(face.skin, _BLOOD, who.lip_redness + 0.3 * max(how.make_up, 0))
    paint.add(band(lower, lower + 1j * who.lower_lip * BUMP), mix(lip, _WHITE, 0.08), _LIP_LIFT)
    paint.add(band(upper - 1j * (who.upper_lip * BUMP**0.8 - bow), upper), mix(lip, _BLACK, 0.14), _LIP_LIFT)
    if gap > 0.6:
        paint.add(band(upper, lower), (70, 20, 22), _LIP_LIFT)
        paint.add(band(upper, upper + 1j * min(0.6 * gap, 2.4) * BUMP)[2:-2], (236, 230, 220), _LIP_LIFT)
    else:
        paint.add(upper, mix(lip, _BLACK, 0.6), _LIP_LIFT, line=0.7)


def _nose(face: Face, paint: Layer) -> None:
    who = face.who
    tip = complex(who.nose_skew, who.nose_length)
    wing = who.nose_width * np.array([0.72, 0.95, 1.0, 0.86, 0.6]) + 1j * np.array([-3, -1.2, 0.6, 2, 2.2])
    nostril = ellipse(who.nose_width * 0.48 + 1.6j, who.nose_width * 0.24, 0.5 + who.nose_upturn)
    paint.add(tip + pair(wing), face.shade, 4, line=0.7)
    paint.add(tip + curve(who.nose_width * 0.5, -1.2) + 2.4j, face.shade, NOSE_LIFT - 1, line=0.6)
    paint.add(tip + pair(nostril), mix(face.shade, _BLACK, 0.5), NOSE_LIFT - 3)


def _eyes(face: Face, paint: Layer) -> None:
    who, how = face.who, face.how
    width = who.eye_width
    opening = who.eye_opening * (1 - 0.95 * max(how.eyes_closed, 0) ** 2)
    place, tilt = complex(who.eye_spacing, who.eye_height), complex(cos(who.eye_tilt), -sin(who.eye_tilt))
    lash = mix(face.hair, _BLACK, 0.75)

    def add(points: Points, colour: Colour, line: float = 0) -> None:
        """`points` from the middle of the right eye, and mirrored from that of the left."""
        paint.add(pair(place + tilt * points), colour, -1, line=line)

    upper, lower = curve(width, opening), curve(width, -0.8 * opening)
    shadow = mix(face.shade, how.colour(1), 0.5 * max(how.make_up, 0))
    add(
        band(curve(width + 0.8, opening + 2.2), upper),
        mix(face.skin, shadow, 0.4 * who.eye_socket + 0.4 * max(how.make_up, 0)),
    )
    add(band(upper, lower), (238, 234, 228))
    iris = palette(_EYES, who.eye_tone * (1 - 0.6 * who.skin_tone))
    x, y = 2.2 * how.gaze_x, 0.7 * how.gaze_y
    right, left = complex(x, y), complex(-x, y)  # the left eye is drawn in a mirror
    middles = np.array([[right], [right], [right - 1 - 1j], [left], [left], [left + 1 - 1j]])
    discs = place + tilt * _between_lids(middles + _IRIS_PUPIL_GLINT, width, opening)
    discs[3:] = mirrored(discs[3:])
    for disc, colour in enumerate((mix(iris, _BLACK, 0.12), _BLACK, _WHITE)):
        paint.add(discs[disc::3], colour, -1)
    add(upper * 1.06, lash, 1.1)
    add(lower, mix(face.shade, lash, 0.25), 0.5)
    if who.lid_crease > 0:
        add(curve(width, opening + 1.8 + who.lid_crease) - 0.6j, face.shade, 0.6)


def _between_lids(points: Points, width: float, opening: float) -> Points:
    room = np.maximum(1 - (points.real / width) ** 2, 0) * opening
    return points.real + 1j * np.minimum(np.maximum(points.imag, -room), 0.8 * room)


def _brows(face: Face, paint: Layer) -> None:
    who, how = face.who, face.how
    thickness = who.brow_thickness * 0.75 * np.minimum(1, 1.35 - ALONG)
    spine = curve(who.brow_length, who.brow_arch)
    angle = who.brow_angle - how.frown
    brow = band(spine - 1j * thickness, spine + 0.6j * thickness) * complex(cos(angle), -sin(angle))
    place = complex(who.eye_spacing + 0.8, who.eye_height - who.brow_gap - how.brow_raise)
    paint.add(pair(place + brow), mix(mix(face.hair, _BLACK, who.brow_tone), face.skin, 0.12), 1)


def _hair(face: Face, paint: Layer) -> None:
    who = face.who
    if face.hair_length > 0:
        line, edge = _hairline(face), _crown(who, who.hair_volume)
        paint.add(line, face.hair, 1, rim=edge[::-1])
        strands = np.concatenate([0.55 * line + 0.45 * edge, edge]).reshape(2, -1).T
        paint.add(strands[5:-5:4], mix(face.hair, _WHITE, 0.1), FLAT, line=0.6)
        paint.add(strands[7:-5:4], mix(face.hair, _BLACK, 0.15), FLAT, line=0.6)


def _worn(face: Face, paint: Layer) -> None:
    """Glasses and hats: anybody's in some pictures, nobody's own."""
    who, how = face.who, face.how
    if how.glasses > 0.2:
        rim = pair(ellipse(complex(who.eye_spacing, who.eye_height + 1), 11.5, 8.5))
        if how.glasses > 0.6:
            paint.add(rim, (30, 28, 32), 5)
        paint.add(np.concatenate([rim, rim[:, :1]], axis=1), (40, 36, 36), 5, line=1.1)
        bridge = max(who.eye_spacing - 11.5, 1)
        paint.add(curve(bridge, 0.3 * bridge) + 1j * who.eye_height, (40, 36, 36), 8, line=1.1)
    if how.hat > 0.2:
        brim = curve(who.face_width * 1.05, -5) + 1j * (who.hairline + 6)
        paint.add(brim, how.colour(1), 3, rim=_crown(who, who.hair_volume + 4)[26:6:-1])
        paint.add(brim, mix(how.colour(1), _BLACK, 0.5), 3, line=1.6)


def _cover(face: Face, paint: Layer) -> None:
    """Something between face and camera that hides a side of it."""
    how = face.how
    if how.cover > 0.2:
        away = complex(cos(how.cover_angle), sin(how.cover_angle))
        paint.add(away * ellipse(68 - 26 * (how.cover - 0.2), 34, 60), how.colour(0), FLAT)
