from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from faceprint.config import Config
from faceprint.errors import UserError
from faceprint.inference.folding import fold_norms
from faceprint.inference.model_folder import load_model
from faceprint.models.norms import SwitchNorm2d
from faceprint.recipe import load_config
from faceprint.training.harden import harden_run, shares
from faceprint.training.opening import open_run
from faceprint.training.plot import plot_shares

SN = (
    "network.name=r50",
    "network.options={norm: syncsn, units: [1, 1, 1, 1], output: FC}",
    "network.image_size=[32, 32]",
)


@pytest.fixture
def sn_run(tiny: Callable[..., Config], trained: Callable[[Config], Any], tmp_path: Path) -> Path:
    trained(tiny(*SN))
    return tmp_path / "run"


def test_each_layer_keeps_its_largest_shares(sn_run: Path, tmp_path: Path) -> None:
    layers = harden_run(sn_run, tmp_path / "hard")
    soft, _ = load_model(sn_run)
    hard, card = load_model(tmp_path / "hard")
    assert card.options["norm_options"] == {"argmax": True}
    before = {name: module for name, module in soft.named_modules() if isinstance(module, SwitchNorm2d)}
    after = {name: module for name, module in hard.named_modules() if isinstance(module, SwitchNorm2d)}
    assert [layer.layer for layer in layers] == list(before) == list(after)
    assert len(layers) == 1 + 4 * 4 + 1
    for layer in layers:
        logits = before[layer.layer].mean_logits, before[layer.layer].var_logits
        assert after[layer.layer].chosen == layer.choice == tuple(int(one.argmax()) for one in logits)
        assert sum(layer.mean) == pytest.approx(1)
    state = soft.state_dict()
    assert all(torch.equal(state[name], value) for name, value in hard.state_dict().items() if name in state)
    assert shares(hard)[0].mean in ((1, 0, 0), (0, 1, 0), (0, 0, 1))


def test_layers_that_chose_batch_norm_fold_into_their_convolutions(sn_run: Path, tmp_path: Path) -> None:
    harden_run(sn_run, tmp_path / "hard")
    hard, _ = load_model(tmp_path / "hard")
    for module in hard.modules():
        if isinstance(module, SwitchNorm2d):
            module.choose(2, 2)
    folded = fold_norms(hard)
    assert not [module for module in folded.backbone.modules() if isinstance(module, SwitchNorm2d)]
    plain = [module for module in folded.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(plain) == 4  # the first of each unit follows no convolution
    images = torch.randn(3, 3, 32, 32)
    assert torch.allclose(folded(images), hard(images), rtol=1e-3, atol=1e-4)


def test_the_recipe_goes_on_from_the_hardened_weights_and_centres(
    sn_run: Path, tmp_path: Path, trained: Callable[[Config], Any]
) -> None:
    harden_run(sn_run, tmp_path / "hard")
    config = load_config(str(tmp_path / "hard" / "finetune.yaml"), [f"out={tmp_path}/fine"])
    assert (config.epochs, config.optimizer.lr, config.schedule.milestones) == (10, 1e-3, [5.0])
    run = open_run(config)
    assert run.trainer.origin == f"network and class centres from {tmp_path / 'hard'}"
    (file,) = (sn_run / "checkpoints").glob("*/centres-*.safetensors")
    assert torch.equal(run.trainer.classifier.centres, load_file(file)["centres"])
    norm = next(module for module in run.trainer.network.modules() if isinstance(module, SwitchNorm2d))
    assert not norm.mean_logits.requires_grad
    assert norm.chosen == harden_run(sn_run, tmp_path / "again")[0].choice
    run, _, records = trained(
        load_config(str(tmp_path / "hard" / "finetune.yaml"), [f"out={tmp_path}/short", "steps=2", "log.every=1"])
    )
    assert run.step == 2
    assert [record["step"] for record in records if record["kind"] == "train"] == [1, 2]
    assert (tmp_path / "short" / "model" / "model.json").is_file()


def test_other_people_get_new_centres(sn_run: Path, tmp_path: Path, tiny: Callable[..., Config]) -> None:
    run = open_run(tiny(*SN, f"init_from={sn_run}", "dry_run=true", "data.first_identity=900"))
    assert run.trainer.origin is not None
    assert "0 taken over by name, 6 new, 6 dropped" in run.trainer.origin
    soft, _ = load_model(sn_run)
    assert torch.equal(next(run.trainer.network.parameters()), next(soft.parameters()))


def test_mistakes(sn_run: Path, tmp_path: Path, tiny: Callable[..., Config], trained: Callable[[Config], Any]) -> None:
    with pytest.raises(UserError, match="exists; give a new folder"):
        harden_run(sn_run, tmp_path)
    harden_run(sn_run, tmp_path / "hard")
    with pytest.raises(UserError, match="made their choice already"):
        harden_run(tmp_path / "hard", tmp_path / "harder")
    trained(tiny(f"out={tmp_path}/plain"))
    with pytest.raises(UserError, match="has no SN layers"):
        harden_run(tmp_path / "plain", tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError):
        open_run(tiny(f"init_from={sn_run}", "dry_run=true"))  # another network


def test_sparsest_max_comes_to_the_choice_by_itself(
    tiny: Callable[..., Config], trained: Callable[[Config], Any], tmp_path: Path
) -> None:
    options = "network.options={norm: syncsn, units: [1, 1, 1, 1], output: FC, norm_options: {sparsest: true}}"
    run, *_ = trained(tiny(*SN, options, "steps=10"))
    weights, logits = run.trainer.optimizer.param_groups
    assert logits["lr"] == pytest.approx(0.1 * weights["lr"])
    assert logits["weight_decay"] == 0
    soft, _ = load_model(tmp_path / "run")
    reached = shares(soft)
    assert all(sorted(row) == [0, 0, 1] for layer in reached for row in (layer.mean, layer.var))
    layers = harden_run(tmp_path / "run", tmp_path / "hard")
    hard, card = load_model(tmp_path / "hard")
    assert card.options["norm_options"] == {"argmax": True}
    assert [layer.choice for layer in layers] == [layer.choice for layer in reached]
    images = torch.randn(3, 3, 32, 32)
    # torch's own instance and layer norm divide by the number of values, SN by one less.
    close = torch.nn.functional.cosine_similarity(hard(images), soft(images))
    assert close.min() > 0.95


def test_a_picture_of_the_shares(sn_run: Path, tmp_path: Path) -> None:
    plot_shares(harden_run(sn_run, tmp_path / "hard"), tmp_path / "shares.png")
    assert (tmp_path / "shares.png").read_bytes()[:4] == b"\x89PNG"
