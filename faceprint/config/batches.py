"""Which images make a batch, how they are read, and how they are changed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from faceprint.config.section import Count, Fraction, Positive, PositiveInt, Section


def _rising(span: tuple[Any, Any]) -> tuple[Any, Any]:
    if span[0] > span[1]:
        raise ValueError("the first number is the smaller one")
    return span


Quality = Annotated[int, Field(ge=1, le=100)]
Span = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]], AfterValidator(_rising)
]

AUGMENT_PRESETS: dict[str, dict[str, Any]] = {
    "none": {"flip": 0.0},
    "arcface": {},  # deepinsight/insightface, recognition/arcface_torch/dataset.py: flips alone
    # mk-minchul/AdaFace, dataset/augmenter.py and its scripts
    "adaface": {
        "crop": 0.2,
        "low_res": 0.2,
        "photometric": 0.2,
        "brightness": 0.5,
        "contrast": 0.5,
        "saturation": 0.5,
    },
    # Ours, for cameras in the field: mild values of everything.
    "robust": {
        "mask": 0.1,
        "shift": 0.03,
        "zoom": 0.05,
        "rotate": 8.0,
        "crop": 0.1,
        "low_res": 0.2,
        "photometric": 0.5,
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.4,
        "hue": 0.03,
        "grey": 0.05,
        "blur": 0.1,
        "jpeg": 0.3,
        "erase": 0.1,
    },
}
"""Values of `augment.preset`; keys that are given go before them."""


class Sampler(Section):
    """Which images make a batch."""

    name: Literal["shuffle", "pk", "balanced"] = "shuffle"
    """All images in random order; P identities with K images each (P x K = batch_size), as a triplet loss needs; or
    identities drawn by how many images they have, and an image of each."""
    images_per_identity: PositiveInt = 4
    """Of `pk`: K. Identities with fewer images repeat them."""
    window: PositiveInt | None = None
    """Of `shuffle`, for shards and Parquet: so many shards or row groups, drawn at random, are shuffled and read
    together before the next, which is much quicker where reading is slow to begin; null: all together."""
    power: Fraction = 0.5
    """Of `balanced`: an identity with n images is drawn with probability in proportion to n^power; 1 draws every image
    alike, 0 every identity."""


class Loader(Section):
    """Reading and decoding of images."""

    workers: Count | None = None
    """Processes that decode images; null: half of the cores, at most 8."""
    prefetch: PositiveInt = 2
    """Batches that each of them is ahead; they lie in shared memory."""
    cache: Literal["none", "encoded", "decoded"] = "none"
    """Keep the whole set in memory that the processes share: as it is stored, or as pixels once they are decoded."""
    decoder: Literal["auto", "cpu", "nvimagecodec"] = "auto"
    """What decodes: the CPU (auto too), or nvImageCodec on the GPU, whose pixels may differ by a few units in 255."""
    max_unreadable: Fraction = 0.01
    """Stop when more than this share of the images cannot be read; those that cannot are named and counted."""


class Augment(Section):
    """Random changes of training images, each on the batch as a whole, on the device that trains."""

    preset: Literal["none", "arcface", "adaface", "robust"] = "arcface"
    """What the other keys are where they are not given: nothing, flips (arcface_torch), AdaFace's, or all of it."""
    mask: Fraction = 0.0
    """Probability of a drawn face mask."""
    flip: Fraction = 0.5
    """Probability of a mirror image."""
    move: Fraction = 1.0
    """Probability of `shift`, `zoom` and `rotate`."""
    shift: Fraction = 0.0
    """Largest translation as a fraction of the image's side."""
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Scale drawn from 1 - zoom .. 1 + zoom."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest rotation, in degrees."""
    crop: Fraction = 0.0
    """Probability that a part of the image is all that is left."""
    crop_area: Span = (0.2, 1.0)
    """Smallest and largest share of the area that is left."""
    crop_mode: Literal["pad", "resize"] = "pad"
    """The part stays in its place on black, or is enlarged to the whole image."""
    low_res: Fraction = 0.0
    """Probability of a lower resolution: made smaller and larger again, by interpolations that are drawn."""
    low_res_scale: Span = (0.2, 1.0)
    """Smallest and largest fraction of the side that it is made smaller to."""
    photometric: Fraction = 1.0
    """Probability of `brightness`, `contrast`, `saturation` and `hue`."""
    brightness: Fraction = 0.0
    """Brightness factor drawn from 1 - brightness .. 1 + brightness."""
    contrast: Fraction = 0.0
    """Contrast factor drawn from 1 - contrast .. 1 + contrast."""
    saturation: Fraction = 0.0
    """Saturation factor drawn from 1 - saturation .. 1 + saturation."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest turn of the hue, as a fraction of the colour circle."""
    grey: Fraction = 0.0
    """Probability of a grey image."""
    blur: Fraction = 0.0
    """Probability of a Gaussian blur."""
    blur_sigma: Annotated[tuple[Positive, Positive], AfterValidator(_rising)] = (0.3, 1.5)
    """Smallest and largest standard deviation of the blur, in pixels."""
    jpeg: Fraction = 0.0
    """Probability of JPEG artefacts."""
    jpeg_quality: Annotated[tuple[Quality, Quality], AfterValidator(_rising)] = (30, 95)
    """Lowest and highest JPEG quality, 1 to 100."""
    erase: Fraction = 0.0
    """Probability that a random rectangle is covered."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        preset = given.get("preset") if isinstance(given, dict) else None
        return {**AUGMENT_PRESETS.get(preset, {}), **given} if isinstance(preset, str) else given
