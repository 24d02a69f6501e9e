"""What a model file says about itself: the content of `model.json`, and of the metadata of exported ONNX files."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError

MAX_CARD_BYTES = 1_000_000
_SHOWN = 5


class StoredCalibration(BaseModel):
    """What the threshold of a card rests on: `far` on `num_different` pairs of different people, of embeddings with or
    without `flip`; `threshold_interval` is its 95 % interval."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    far: Annotated[float, Field(gt=0, lt=1)]
    flip: bool
    num_different: Annotated[int, Field(ge=1)]
    num_same: Annotated[int, Field(ge=1)]
    threshold_interval: tuple[float, float]


class ModelCard(BaseModel):
    """How to rebuild a network and how to use it.

    `architecture`, `options` and `embedding_dim` are the arguments of `create_model`, together with `input.size`.
    `threshold` is the cosine above which two images are taken for one person, None where nobody has chosen one;
    `calibration` says how `faceprint calibrate` chose it, None where it did not.
    `content_hash` is "sha256:" and the 64 hexadecimal digits of `model.safetensors`; `save_model` fills it in.
    `provenance` says where the weights come from, as plain JSON values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal["faceprint-model/1"] = "faceprint-model/1"
    architecture: str
    options: dict[str, Any] = {}
    embedding_dim: Annotated[int, Field(ge=1, le=1 << 16)]
    input: InputSpec = InputSpec()
    licence: str
    provenance: dict[str, Any] = {}
    threshold: Annotated[float, Field(ge=-1, le=1)] | None = None
    calibration: StoredCalibration | None = None
    content_hash: Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")] | None = None

    def to_json(self) -> str:
        """The card as JSON text; `parse_card` reads it."""
        return self.model_dump_json(indent=2) + "\n"


def parse_card(text: str | bytes, name: str | os.PathLike[str]) -> ModelCard:
    """A card from its JSON. Raises `UserError` that says what is wrong where; `name` stands in its message."""
    if len(text) > MAX_CARD_BYTES:
        raise UserError(f"{name}: {len(text):,} bytes; a model card has at most {MAX_CARD_BYTES:,}")
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        found = [f"{'.'.join(map(str, item['loc'])) or 'JSON'}: {item['msg']}" for item in error.errors()]
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise UserError(f"{name}: not a model card of this program: {'; '.join(found[:_SHOWN])}{more}") from error
