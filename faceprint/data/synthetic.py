"""Generated identities: a labelled set of drawn faces of any size that needs no download and no storage.

It serves quick starts, tests and benchmarks. What a network reaches on it says nothing about photographs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from faceprint.data.images import Image
from faceprint.data.synthetic_photo import photograph
from faceprint.data.synthetic_traits import Conditions, Identity
from faceprint.errors import UserError

_SIDES = range(16, 1025)
_NUMBERS = range(2**63)  # of people, and seeds: what fits the generator's 64-bit words and NumPy's labels


@dataclass(frozen=True)
class SyntheticFaces:
    """`num_identities` generated people with `images_per_identity` drawn portraits each; a `Source`.

    A person keeps face, tones and marks; pose, light, expression, crop, hair-do, what is worn or in the way, and
    the camera vary with `difficulty`: 0 repeats one portrait; 0.5 leaves raw pixels and untrained networks little
    better than chance, and a trained network something to learn; 1 is the hardest.

    `size` is (height, width) in pixels; faces lie on the alignment template of that size. `first_identity` is the
    number of the first person: sets of one `seed` that share no number share no person. Image `j` of person `n`
    depends on `seed`, `n`, `j`, `size` and `difficulty` alone, and is the same bytes wherever NumPy and OpenCV are
    the same builds. Nothing is stored: each image is drawn, in about a millisecond, when it is asked for.

    Raises `UserError` for a count below 1, a number below 0, numbers or images beyond 2**63, a side outside
    16 .. 1024 and a difficulty outside 0 .. 1.
    """

    num_identities: int
    images_per_identity: int
    _: KW_ONLY
    size: tuple[int, int] = (112, 112)
    difficulty: float = 0.5
    seed: int = 0
    first_identity: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("num_identities", 1),
            ("images_per_identity", 1),
            ("seed", 0),
            ("first_identity", 0),
        ):
            _check_whole(name, getattr(self, name), range(least, _NUMBERS.stop))
        if self.first_identity + self.num_identities > _NUMBERS.stop:
            raise UserError(
                f"first_identity {self.first_identity} and num_identities {self.num_identities}:"
                f" people are numbered below {_NUMBERS.stop}; lower one of them"
            )
        if self.num_identities * self.images_per_identity not in _NUMBERS:
            raise UserError(
                f"num_identities {self.num_identities} times images_per_identity {self.images_per_identity}:"
                f" a set has less than {_NUMBERS.stop} images; lower one of them"
            )
        _check_difficulty(self.difficulty)
        object.__setattr__(self, "size", _checked_size(self.size))  # a tuple, even where a list was given

    @property
    def class_names(self) -> IdentityNames:
        return IdentityNames(range(self.first_identity, self.first_identity + self.num_identities))

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 (num_identities * images_per_identity,), read-only: each identity's images in a row."""
        return self._labels

    @cached_property
    def _labels(self) -> NDArray[np.int64]:
        labels = np.repeat(np.arange(self.num_identities, dtype=np.int64), self.images_per_identity)
        labels.setflags(write=False)
        return labels

    def __len__(self) -> int:
        return self.num_identities * self.images_per_identity

    def __getitem__(self, index: int) -> tuple[Image, int]:
        """Draw image `index`: uint8 (height, width, 3) RGB, and its label. `IndexError` past the end."""
        label, image = self._place(index)
        number = self.first_identity + label
        who = Identity.of(self.seed, number)
        how = Conditions.of(self.seed, number, image, self.difficulty)
        return photograph(who, how, self.size), label

    def encoded(self, index: int) -> bytes:
        """Image `index` as a PNG file."""
        return cv2.imencode(".png", self[index][0][..., ::-1])[1].tobytes()

    def stored_path(self, index: int) -> str:
        """Images are drawn, so they have none."""
        return ""

    def name(self, index: int) -> str:
        """Such as "synthetic-000123/4": the identity's name and the number of its image, from 0."""
        label, image = self._place(index)
        return f"{self.class_names[label]}/{image}"

    def _place(self, index: int) -> tuple[int, int]:
        return divmod(range(len(self))[index], self.images_per_identity)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_labels"}


@dataclass(frozen=True)
class IdentityNames(Sequence[str]):
    """The names of people by their `numbers`, made when asked for: millions cost nothing."""

    numbers: range

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> IdentityNames: ...
    def __getitem__(self, index: int | slice) -> str | IdentityNames:
        if isinstance(index, slice):
            return IdentityNames(self.numbers[index])
        return f"synthetic-{self.numbers[index]:06d}"


def _check_whole(name: str, value: object, allowed: range) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        raise UserError(f"{name}: got {value!r}; it is a whole number from {allowed.start} to {allowed.stop - 1}")


def _check_difficulty(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise UserError(f"difficulty: got {value!r}; it is a number from 0 (one portrait) to 1 (hardest)")


def _checked_size(value: object) -> tuple[int, int]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise UserError(f"size: got {value!r}; it is (height, width) in pixels, such as (112, 112)")
    height, width = value
    _check_whole("size: height", height, _SIDES)
    _check_whole("size: width", width, _SIDES)
    return height, width
