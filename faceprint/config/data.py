"""What is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import Field, model_validator

from faceprint.config.section import Count, Fraction, Positive, PositiveInt, Section


class Exclude(Section):
    """People who are left out of training, because they are tested."""

    pairs: Path
    """A verification list in LFW `pairs.txt` layout; everybody named in it is left out of training."""
    folds: list[PositiveInt] | None = None
    """Only people of these folds (1-based); null: of all folds."""


class FolderData(Section):
    """An image folder: one folder a person."""

    source: Literal["folder"]
    """What kind of data it is."""
    path: Path
    """A folder with one folder an identity."""
    min_images: PositiveInt = 1
    """Identities with fewer images are left out."""
    exclude: Exclude | None = None
    """People who are left out; null: nobody."""


class ListData(Section):
    """An image list: a file with one line an image."""

    source: Literal["list"]
    """What kind of data it is."""
    path: Path
    """An image list: `path label`, `path<TAB>label`, or CSV with a header `path,label`."""
    root: Path | None = None
    """What its paths are relative to; null: the list's own folder."""
    min_images: PositiveInt = 1
    """Identities with fewer images are left out."""
    exclude: Exclude | None = None
    """People who are left out; null: nobody."""


class ShardsData(Section):
    """Tar shards in the WebDataset layout."""

    source: Literal["shards"]
    """What kind of data it is."""
    path: str
    """A .tar, a folder of them, a pattern such as `shards-{000..123}.tar` or `*.tar`, or a URL of these."""
    min_images: PositiveInt = 1
    """Identities with fewer images are left out."""
    exclude: Exclude | None = None
    """People who are left out; null: nobody."""


class ParquetData(Section):
    """Parquet files with encoded images, as Hugging Face datasets keeps them."""

    source: Literal["parquet"]
    """What kind of data it is."""
    path: str
    """A .parquet, a folder of them, a pattern such as `train-*.parquet`, or a URL of these."""
    image_column: str = "image"
    """The column of encoded images: binary, or a struct with `bytes`."""
    label_column: str | None = None
    """The column of labels, whole numbers or names; null: `identity`, else `label`."""
    min_images: PositiveInt = 1
    """Identities with fewer images are left out."""
    exclude: Exclude | None = None
    """People who are left out; null: nobody."""


class RecordData(Section):
    """A RecordIO file (`.rec`), as training sets are published."""

    source: Literal["record"]
    """What kind of data it is."""
    path: Path
    """A `.rec` file, or a folder that holds `train.rec`."""
    min_images: PositiveInt = 1
    """Identities with fewer images are left out."""
    exclude: Exclude | None = None
    """People who are left out, by `NAME.classes.txt` beside the file; null: nobody."""


class SyntheticData(Section):
    """Generated people. They say nothing about photographs."""

    source: Literal["synthetic"]
    """What kind of data it is."""
    identities: PositiveInt = 200
    """People to draw."""
    images_per_identity: PositiveInt = 20
    """Images of each."""
    difficulty: Fraction = 0.5
    """How much pose, light and expression vary; 0 repeats one portrait."""
    first_identity: Count = 0
    """Number of the first person: sets that share no number share no person."""
    seed: Count = 0
    """Another seed, other people."""


PartData = Annotated[
    Union[FolderData, ListData, RecordData, ShardsData, ParquetData, SyntheticData],  # noqa: UP007
    Field(discriminator="source"),
]


class Part(Section):
    """One of several sets."""

    name: str
    """What it is called: people of separate sets are called `NAME/PERSON`."""
    weight: Positive = 1.0
    """How often each of its images is drawn in an epoch, on average: 2 twice, 0.5 every other epoch."""
    data: PartData
    """The set, as `data` describes one; its keys may also stand beside `name`."""

    @model_validator(mode="before")
    @classmethod
    def _nested(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "source" not in values:
            return values
        own = ("name", "weight")
        return {
            **{key: values[key] for key in own if key in values},
            "data": {key: value for key, value in values.items() if key not in own},
        }


class MixedData(Section):
    """Several sets at once."""

    source: Literal["mixed"]
    """What kind of data it is."""
    parts: Annotated[list[Part], Field(min_length=1)]
    """The sets."""
    classes: Literal["separate", "by_name", "heads"] = "separate"
    """People of different sets are different people; or are one where they have one name; or are different, and
    compared with the people of their own set alone: each set has class centres of its own, and the loss is the mean
    over all images."""


Data = Annotated[Union[PartData, MixedData], Field(discriminator="source")]  # noqa: UP007


SOURCES: dict[str, type[Section]] = {
    "folder": FolderData,
    "list": ListData,
    "record": RecordData,
    "shards": ShardsData,
    "parquet": ParquetData,
    "synthetic": SyntheticData,
    "mixed": MixedData,
}
