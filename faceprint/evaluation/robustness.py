"""How a network bears worse images: one kind of degradation after the other, at several strengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from faceprint.data.fingerprint import bytes_fingerprint
from faceprint.data.images import Image
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.evaluation import metrics
from faceprint.evaluation.embeddings import ImageSet
from faceprint.registry import Table

if TYPE_CHECKING:
    from faceprint.data.augment import Augmentation

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Sweep:
    """`strengths` of one kind, mild to strong, in `unit`; `settings(strength)` are those of `Augmentation`."""

    unit: str
    strengths: tuple[float, ...]
    settings: Callable[[float], dict[str, Any]]


SWEEPS: Table[Sweep] = Table(
    "degradation",
    [
        ("blur", Sweep("sigma in pixels", (1, 2, 3, 4), lambda x: {"blur": 1.0, "blur_sigma": (x, x)})),
        ("jpeg", Sweep("quality", (50, 30, 20, 10, 5), lambda x: {"jpeg": 1.0, "jpeg_quality": (x, x)})),
        ("resolution", Sweep("of the side", (0.5, 0.25, 0.125), lambda x: {"low_res": 1.0, "low_res_scale": (x, x)})),
        ("rotation", Sweep("up to degrees", (10, 20, 30, 45), lambda x: {"move": 1.0, "rotate": x})),
        ("mask", Sweep("of the images", (1.0,), lambda x: {"mask": x})),
    ],
)
"""Names of degradations; each is the part of `Augmentation` that training uses, alone."""


def augmentation_of(kind: str, strength: float) -> Augmentation:
    """This degradation alone, on every image."""
    from faceprint.data.augment import Augmentation

    return replace(Augmentation(flip=0.0), **SWEEPS[kind].settings(strength))


def degraded_images(images: ImageSet, spec: InputSpec, kind: str, strength: float, seed: int = 0) -> ImageSet:
    """`images` as a network with input `spec` takes them, each degraded by what `seed` and its number draw."""
    augmentation = augmentation_of(kind, strength)
    fingerprint = images.fingerprint

    def told() -> str:
        assert fingerprint is not None
        # One picture stands for how it is done, which may change from version to version.
        shown = degraded(_sample(spec.size), augmentation, seed, 0).tobytes()
        return bytes_fingerprint([fingerprint().encode(), f"{kind} {strength!r} {seed}".encode(), shown])

    return ImageSet(
        images.names,
        lambda number: degraded(images.prepared(number, spec), augmentation, seed, number),
        told if fingerprint is not None else None,
        images.keys,
    )


def degraded(image: Image, augmentation: Augmentation, seed: int, number: int) -> Image:
    """`image`, uint8 (H, W, 3) RGB, changed by what `seed` and its `number` in the set draw."""
    import torch

    drawn = int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    made = augmentation(pixels, torch.Generator().manual_seed(drawn))
    return made.round().to(torch.uint8)[0].permute(1, 2, 0).numpy()


def _sample(size: tuple[int, int]) -> Image:
    """A picture with edges in all directions."""
    rows, columns = np.indices(size)
    return np.stack([rows * 7, columns * 5, (rows ^ columns) * 3], axis=2).astype(np.uint8)


def supported_far(num_different: int, far: float) -> None:
    """Raise `UserError` where fewer than one false accept would stand behind a threshold for this `far`."""
    if not 0 < far < 1:
        raise UserError(f"far is {far}; give a fraction between 0 and 1, such as 1e-3")
    if far * num_different < 1 - 1e-9:
        raise UserError(
            f"{num_different:,} different pairs can't set a threshold for far={far:g}, which needs at least"
            f" {int(np.ceil(1 / far)):,}; give a larger far, or threshold=…"
        )


def rates(scores: Floats, same: Bools, far: float, threshold: float) -> dict[str, float]:
    """What is left of a set: `auc`, `tar` at a threshold chosen anew for `far`, and the errors at the old `threshold`.

    `fmr` and `fnmr` are what a system in use would see, since its threshold stays.
    """
    accepted = scores > threshold
    return {
        "auc": metrics.auc(scores, same),
        "tar": metrics.tar_at_far(scores, same, far).tar,
        "fmr": float(np.mean(accepted[~same])),
        "fnmr": float(np.mean(~accepted[same])),
    }
