"""A threshold into a model: the card of a model folder, or of a copy of an ONNX file."""

from __future__ import annotations

from pathlib import Path

from faceprint.errors import UserError
from faceprint.files import write_whole
from faceprint.inference.embedder import Embedder
from faceprint.inference.model_card import ModelCard, StoredCalibration
from faceprint.inference.model_folder import CARD, find_model_folder
from faceprint.inference.onnx_graph import METADATA_KEY, read_graph
from faceprint.inference.output_file import check_output
from faceprint.onnx_extra import require


def check_storable(model: str, output: Path | None) -> None:
    """Raise `UserError`, before long work, where `store_threshold` could not write."""
    if Path(model).is_dir():
        find_model_folder(model)
        if output is not None:
            raise UserError(
                f"{model}: the threshold is stored in its {CARD}; leave out --output, which is for ONNX files"
            )
        return
    if Path(model).suffix.lower() != ".onnx":
        raise UserError(f"{model}: a threshold is stored with a run folder, a model folder or an ONNX file")
    if output is None:
        raise UserError(f"{model}: an ONNX file is not changed; give --output FILE.onnx for a copy with the threshold")
    check_output(output, ".onnx")


def store_threshold(
    model: str, embedder: Embedder, threshold: float, calibration: StoredCalibration, output: Path | None
) -> Path:
    """Write `threshold` into the card of the model folder, or of `output`, a copy of the ONNX file; the file written.

    `embedder` is the model as it was calibrated: a foreign ONNX file gets a card with its input. Raises `UserError`
    as `check_storable`, and where a file cannot be written; it is there whole or as it was before.
    """
    check_storable(model, output)
    found = embedder.card or _foreign_card(model, embedder)
    card = found.model_copy(update={"threshold": threshold, "calibration": calibration})
    if output is None:
        target = find_model_folder(model) / CARD
        write_whole(target, card.to_json().encode())
        return target
    write_whole(output, _with_card(Path(model), card))
    return output


def _foreign_card(model: str, embedder: Embedder) -> ModelCard:
    return ModelCard(
        architecture="foreign ONNX file",
        embedding_dim=embedder.embedding_dim,
        input=embedder.input,
        licence="unknown",
        provenance={"file": Path(model).name},
    )


def _with_card(path: Path, card: ModelCard) -> bytes:
    """The ONNX file with `card`, its weights inside."""
    model = read_graph(path).model
    others = {entry.key: entry.value for entry in model.metadata_props if entry.key != METADATA_KEY}
    require("onnx.helper").set_model_props(model, {**others, METADATA_KEY: card.to_json()})
    return model.SerializeToString()
