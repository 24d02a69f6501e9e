"""Hardening: each SN layer keeps the one statistic it has come to prefer, and the network is fine-tuned.

SN+ARGMAX of the published Switchable-Normalisation system (arXiv 1806.10779): 10 epochs at a learning rate of 1e-3,
a tenth of it from epoch 5 on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from faceprint.config import Config
from faceprint.errors import UserError
from faceprint.files import write_whole
from faceprint.inference.model_card import ModelCard
from faceprint.inference.model_folder import load_model, save_model
from faceprint.models import FaceNetwork, create_model
from faceprint.models.switch_norm import STATISTICS, SwitchNorm2d
from faceprint.recipe import dump, load_config, validate
from faceprint.training.initial import read_classes, write_classes

FINE_TUNING: dict[str, Any] = {"epochs": 10, "steps": None, "resume": False}
LEARNING_RATE = 1e-3
MILESTONE = 5.0
RECIPE = "finetune.yaml"


@dataclass(frozen=True)
class LayerShares:
    """How much one SN layer takes of each statistic: shares of mean and variance in the order of `STATISTICS`."""

    layer: str
    mean: tuple[float, ...]
    var: tuple[float, ...]

    @property
    def choice(self) -> tuple[int, int]:
        """The largest share's number, for mean and variance; the first of equal ones."""
        return self.mean.index(max(self.mean)), self.var.index(max(self.var))

    @property
    def becomes(self) -> str:
        """What the layer is after hardening, in words."""
        mean, var = (STATISTICS[kind].upper() for kind in self.choice)
        return mean if mean == var else f"{mean} mean, {var} variance"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "becomes": self.becomes}


def shares(network: nn.Module) -> list[LayerShares]:
    """What every SN layer of `network` takes of each statistic, in the network's order."""
    found: list[LayerShares] = []
    for name, module in network.named_modules():
        if isinstance(module, SwitchNorm2d):
            mean, var = (tuple(row) for row in module.shares().tolist())
            found.append(LayerShares(name, mean, var))
    return found


def harden(network: FaceNetwork, card: ModelCard) -> tuple[FaceNetwork, ModelCard, list[LayerShares]]:
    """The network with each SN layer reduced to its largest shares, its card, and the shares it was chosen by.

    Weights are shared with `network`. Raises `UserError` for a network without SN, or one hardened before.
    """
    layers = shares(network)
    if not layers:
        raise UserError(f"{card.architecture}: has no SN layers; train one with network.options.norm=sn or syncsn")
    norm_options = dict(card.options.get("norm_options") or {})
    if any(module.argmax for module in network.modules() if isinstance(module, SwitchNorm2d)):
        raise UserError(f"{card.architecture}: its SN layers have made their choice already; fine-tune it")
    norm_options.pop("sparsest", None)
    options = {**card.options, "norm_options": {**norm_options, "argmax": True}}
    with torch.device("meta"):
        hard = create_model(card.architecture, embedding_dim=card.embedding_dim, image_size=card.input.size, **options)
    choices = {f"{layer.layer}.choice": torch.tensor(layer.choice, dtype=torch.int8) for layer in layers}
    state = {name: value for name, value in network.state_dict().items() if not name.endswith(".radius")}
    hard.load_state_dict({**state, **choices}, assign=True)
    provenance = {**card.provenance, "hardened_from": card.content_hash}
    return hard.eval(), card.model_copy(update={"options": options, "provenance": provenance}), layers


def harden_run(run: Path, output: Path) -> list[LayerShares]:
    """Harden the model of a run folder or model folder into the new folder `output`.

    Writes `model/`; for a run folder also its class centres and `finetune.yaml`, the recipe that goes on from there.
    Raises `UserError`, also for an `output` that exists.
    """
    if output.exists():
        raise UserError(f"{output} exists; give a new folder")
    network, card = load_model(run)
    hard, card, layers = harden(network, card)
    config = load_config(str(run / "config.yaml")) if (run / "config.yaml").is_file() else None
    classes = read_classes(run)
    try:
        save_model(output / "model", hard, card)
        if classes is not None:
            write_classes(output, classes)
        if config is not None:
            write_whole(output / RECIPE, dump(fine_tuning(config, card, output)).encode())
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror or error})") from error
    return layers


def fine_tuning(config: Config, card: ModelCard, folder: Path) -> Config:
    """The published fine-tuning of a hardened network, with everything else as in `config`."""
    values = config.model_dump(mode="json")
    values.update(
        FINE_TUNING, init_from=str(folder), out=None, published=None, recipe=f"{config.recipe or 'run'}_argmax"
    )
    values["network"]["options"] = card.options
    values["optimizer"]["lr"] = LEARNING_RATE
    values["schedule"] = {"name": "step", "unit": "epoch", "milestones": [MILESTONE], "factor": 0.1}
    return validate(values)
