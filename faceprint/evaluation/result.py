"""The file format of results, `faceprint-result/1`: what every `faceprint eval … --json` writes and `report` reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from typing_extensions import Self

from faceprint.errors import UserError

RESULT_FORMAT = "faceprint-result/1"
MAX_RESULT_BYTES = 32_000_000
_SHOWN, _NARROWEST = 5, 1e-12

MAX_NAME = 1000


def _fitted(value: object, info: ValidationInfo) -> object:
    """Names met here, such as paths of files, may be longer, or no Unicode: the end that fits. A file's are refused."""
    if info.mode == "json" or not isinstance(value, str):
        return value
    text = value.encode(errors="replace").decode()
    return text if len(text) <= MAX_NAME else f"…{text[1 - MAX_NAME :]}"


Name = Annotated[str, Field(max_length=MAX_NAME), BeforeValidator(_fitted)]
Count = Annotated[int, Field(ge=0)]
Drawable = Annotated[float, Field(ge=-1e15, le=1e15)]
"""Rates, ranks and scores lie far within; an axis of floating-point numbers cannot hold much more."""
Numbers = Annotated[list[Drawable], Field(max_length=20_000)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Interval(_Part):
    """A confidence interval of a figure, in the figure's unit."""

    low: float
    high: float
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    method: Name
    """How it was made, with what it takes for granted."""


class Figure(_Part):
    """One number of a result, with what stands behind it."""

    set: Name = ""
    """The test set as papers name it, such as LFW or IJB-C."""
    name: Name
    """What is counted, such as accuracy or TAR@FAR=1e-4."""
    value: float
    unit: Literal["fraction", "number"] = "fraction"
    std: Annotated[float, Field(ge=0)] | None = None
    """Standard deviation over folds, ddof = 0 unless `rule` says otherwise."""
    errors: Count | None = None
    """Wrong decisions among `trials`."""
    trials: Count | None = None
    false_accepts: Count | None = None
    """Different pairs accepted at the threshold of the figure."""
    interval: Interval | None = None
    rule: Name = ""
    """How the threshold was chosen."""


class Curve(_Part):
    """Points of a curve, which holds from each to the next.

    `roc`: FAR and TAR; `det`: FMR and FNMR; `cmc`: rank and rate; `identification_det`: FPIR and FNIR; `discard`:
    fraction and FNMR.
    """

    set: Name = ""
    kind: Literal["roc", "det", "cmc", "identification_det", "discard"]
    x: Numbers
    y: Numbers

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.x) != len(self.y):
            raise ValueError(f"x has {len(self.x)} numbers, y {len(self.y)}")
        return self


class Point(_Part):
    """A rate at one place of a series."""

    at: Name
    """The place: the name of a group, a strength, a span of years."""
    value: Annotated[float, Field(ge=0, le=1)]
    interval: Interval | None = None


class Series(_Part):
    """A rate of an analysis from place to place: by group of people, by strength of a degradation, by years."""

    set: Name = ""
    kind: Literal["group", "strength", "years"]
    axis: Name
    """What the places are, such as `blur, sigma in pixels`."""
    measure: Name
    """What is stated, such as FMR."""
    line: Name = ""
    """Which of several of this measure, such as `both images degraded`."""
    reference: Annotated[float, Field(ge=0, le=1)] | None = None
    """What the threshold was chosen for, where the measure is that."""
    points: Annotated[list[Point], Field(min_length=1, max_length=10_000)]

    @model_validator(mode="after")
    def _places(self) -> Self:
        if len({point.at for point in self.points}) != len(self.points):
            raise ValueError("a place is there twice")
        return self


class Histogram(_Part):
    """Counts of scores in len(counts) bins; bin i is [edges[i], edges[i + 1]), the last one closed."""

    set: Name = ""
    label: Name
    edges: Annotated[list[Drawable], Field(min_length=2, max_length=2001)]
    counts: Annotated[list[Count], Field(min_length=1, max_length=2000)]

    @model_validator(mode="after")
    def _bins(self) -> Self:
        rising = all(high - low > _NARROWEST for low, high in zip(self.edges, self.edges[1:], strict=False))
        if len(self.edges) != len(self.counts) + 1 or not rising:
            raise ValueError(f"edges must rise, each by more than {_NARROWEST:g}, and be one more than counts")
        return self


class WorstPair(_Part):
    """A pair on the wrong side: one person scored low, or two scored high."""

    set: Name = ""
    first: Name
    second: Name
    same: bool
    score: float


class AboutModel(_Part):
    """Whose figures these are."""

    name: Name
    content_hash: Name | None = None
    """"sha256:" and 64 hexadecimal digits."""
    licence: Name | None = None
    architecture: Name | None = None
    provenance: dict[Name, JsonValue] = {}
    """Where the weights come from, as the model card has it."""
    input: dict[Name, JsonValue] = {}
    """What the network was fed: size (height, width), colour, mean and std, and whether with flip."""
    published: bool = False
    """True: printed by others, not measured here."""


class AboutData(_Part):
    """What was tested on."""

    name: Name
    counts: dict[Name, Count] = {}


class Result(BaseModel):
    """One evaluation. Keys besides these are the protocol's own, any JSON: `accuracy`, `tar_at_far`, `sets`, …

    `figures` has all of them that are numbers in one form, whatever the protocol. `results` is for a table of several
    models, each with a result of its own.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False, populate_by_name=True)

    format: Literal["faceprint-result/1"] = Field(default=RESULT_FORMAT, alias="schema")
    protocol: Name
    program: Name = ""
    recipe: Name | None = None
    """The row of the zoo whose published figures these stand beside."""
    about_model: AboutModel
    about_data: AboutData
    figures: Annotated[list[Figure], Field(max_length=10_000)] = []
    curves: Annotated[list[Curve], Field(max_length=200)] = []
    series: Annotated[list[Series], Field(max_length=400)] = []
    histograms: Annotated[list[Histogram], Field(max_length=400)] = []
    worst_pairs: Annotated[list[WorstPair], Field(max_length=2000)] = []
    results: Annotated[list[Result], Field(max_length=200)] = []

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; what is null or empty by default is left out of the parts."""
        written = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {"schema": self.format, **written, **(self.__pydantic_extra__ or {})}

    @property
    def each(self) -> list[Result]:
        """The results in it: its own, or those of a table."""
        return self.results or [self]


def read_result(path: str | os.PathLike[str]) -> Result:
    """A result from its JSON file. Raises `UserError` that says what is wrong where."""
    file = Path(path)
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_RESULT_BYTES + 1)  # its size says nothing of a device
        if len(text) > MAX_RESULT_BYTES:
            raise UserError(f"{file}: a result has at most {MAX_RESULT_BYTES:,} bytes")
        return Result.model_validate_json(text)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from error
    except ValidationError as error:
        found = [f"{'.'.join(map(str, item['loc'])) or 'JSON'}: {item['msg']}" for item in error.errors()]
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise UserError(
            f"{file}: not a result of `faceprint eval … --json` ({RESULT_FORMAT}): {'; '.join(found[:_SHOWN])}{more}"
        ) from error
