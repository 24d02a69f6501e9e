"""The drawing board of generated faces: shapes, layers of them, and the head they lie on.

A point is a complex number x + iy in the plane of the face: right and down from its centre, in pixels of a
112x112 crop. `View` lays points on an ellipsoid, turns it, and aligns it as a detected face would be aligned.
"""

from __future__ import annotations

from math import cos, exp, nan, sin

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from faceprint.data.alignment import similarity_transform, template
from faceprint.data.synthetic_traits import Conditions, Identity

Points = NDArray[np.complex128]
Colour = tuple[float, float, float]
"""Red, green, blue, 0 .. 255."""

FLAT = nan
"""The lift of what stays in place as the head turns: the outline of the near-round skull, and what is no head."""

NOSE_LIFT = 9.0
"""How far the tip of the nose stands out."""

_FIXED_POINT_BITS = 4

# Shapes are sums of these few.
ALONG = np.linspace(-1, 1, 11)
BUMP = 1 - ALONG**2
ARCH: Points = np.exp(1j * np.linspace(np.pi, 2 * np.pi, 33))
"""Half a circle from left to right over the top; y points down."""
_CIRCLE: Points = np.exp(1j * np.linspace(0, 2 * np.pi, 16, endpoint=False))


def curve(width: float, height: float) -> Points:
    """A parabola from -width to width that rises `height` in the middle."""
    return width * ALONG - 1j * height * BUMP


def band(upper: Points, lower: Points) -> Points:
    """The polygon between two curves that both run from left to right."""
    return np.concatenate([upper, lower[::-1]])


def ellipse(centre: complex, width: float, height: float) -> Points:
    return centre + (width * _CIRCLE.real + 1j * height * _CIRCLE.imag)


def mirrored(points: Points) -> Points:
    return -points.conj()


def pair(points: Points) -> Points:
    """`points` (N,) on the right and their mirror image on the left: (2, N)."""
    return np.concatenate([points, mirrored(points)]).reshape(2, -1)


def mix(a: Colour, b: Colour, part: float) -> Colour:
    """`part` 0: `a`, 1: `b`."""
    return a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part, a[2] + (b[2] - a[2]) * part


def palette(colours: tuple[Colour, ...], place: float) -> Colour:
    """The colour at `place`, 0 .. 1 from the first to the last, mixed from its neighbours."""
    at = min(max(place, 0.0), 0.9999) * (len(colours) - 1)
    return mix(colours[int(at)], colours[int(at) + 1], at % 1)


class View:
    """Where a point of the face falls in a crop of `size` = (height, width)."""

    def __init__(self, who: Identity, how: Conditions, landmarks: Points, size: tuple[int, int]) -> None:
        """`landmarks` (5,): eyes, nose tip, mouth corners in the plane of the face; they align the crop."""
        self.axes = who.face_width * 1.1, 64.0, who.face_width * 0.9
        self.unit = size[0] / 112
        self._yaw, self._pitch = how.yaw, how.pitch
        self._zoom, self.centre = 1 + 0j, 0j  # as yet: pixels of the face's plane
        seen = self.project(landmarks, np.array([0, 0, NOSE_LIFT, 0, 0]))
        goal = template(size)
        aligned = similarity_transform(seen.view(np.float64).reshape(-1, 2), goal)
        slip = exp(how.zoom) * complex(cos(how.roll), sin(how.roll))
        middle = complex(*goal.mean(axis=0))
        self._zoom = slip * complex(aligned[0, 0], aligned[1, 0])
        self.centre = middle + slip * (complex(aligned[0, 2], aligned[1, 2]) - middle)
        self.centre += self.unit * complex(how.shift_x, how.shift_y)

    @property
    def scale(self) -> float:
        """Pixels of the crop to one of the face's plane."""
        return abs(self._zoom)

    def project(self, points: Points, lifts: NDArray[np.float64]) -> Points:
        """Pixels x + iy of the crop, (N,), for `points` (N,) raised by `lifts` (N,) above the head or FLAT."""
        a, b, c = self.axes
        x, y = points.real, points.imag
        z = c * np.sqrt(np.maximum(1 - (x / a) ** 2 - (y / b) ** 2, 0)) + lifts
        across = x * cos(self._yaw) + z * sin(self._yaw)
        ahead = z * cos(self._yaw) - x * sin(self._yaw)
        turned = across + 1j * (y * cos(self._pitch) + ahead * sin(self._pitch))
        return np.where(np.isnan(lifts), points, turned) * self._zoom + self.centre


class Layer:
    """Shapes to be painted one over the other, all projected at once (which is what makes it quick)."""

    def __init__(self) -> None:
        self._points: list[Points] = []
        self._lifts: list[float] = []
        self._shapes: list[tuple[int, int, Colour, float]] = []  # polygons, points in each, colour, line

    def add(
        self,
        points: Points,
        colour: Colour,
        lift: float = 0.0,
        *,
        line: float = 0.0,
        rim: Points | None = None,
    ) -> None:
        """Add one polygon (N,) or several (K, N), `lift` above the head or FLAT.

        `line` is the thickness of a line to draw instead, in pixels of a 112x112 crop; `rim` goes on with a
        polygon (N,) by points that are FLAT.
        """
        self._points.append(points.reshape(-1))
        self._lifts.append(lift)
        if rim is not None:
            self._points.append(rim)
            self._lifts.append(FLAT)
        count = points.shape[-1] + (0 if rim is None else len(rim))
        self._shapes.append((points.size // points.shape[-1], count, colour, line))

    def paint(self, canvas: MatLike, view: View, scale: float) -> None:
        """Paint on `canvas`, which is `scale` times as large as the view's crop."""
        lifts = np.repeat(self._lifts, [len(points) for points in self._points])
        screen = (view.project(np.concatenate(self._points), lifts) + (0.5 + 0.5j)) * scale - (0.5 + 0.5j)
        pixels = np.rint(screen.view(np.float64) * (1 << _FIXED_POINT_BITS)).astype(np.int32).reshape(-1, 2)
        start = 0
        for polygons, count, colour, line in self._shapes:
            stop = start + polygons * count
            part = list(pixels[start:stop].reshape(polygons, count, 2))
            start = stop
            if line:
                thickness = max(1, round(line * scale * view.unit))
                cv2.polylines(canvas, part, False, colour, thickness, cv2.LINE_AA, _FIXED_POINT_BITS)
            else:
                cv2.fillPoly(canvas, part, colour, cv2.LINE_AA, _FIXED_POINT_BITS)
