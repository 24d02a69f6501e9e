"""The losses by loops over images, and a small student that comes to resemble its teacher."""

from __future__ import annotations

from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from faceprint.assignments import override
from faceprint.data.pixels import InputSpec
from faceprint.data.synthetic import SyntheticFaces
from faceprint.errors import UserError
from faceprint.inference.embedder import load
from faceprint.recipe import validate
from faceprint.training.distillation import ANGLE_WEIGHT, embedding_loss, relation_loss
from faceprint.training.loop import train
from faceprint.training.opening import open_run
from faceprint.training.setup import build_trainer

CONFIG: dict[str, Any] = {
    "network": {"name": "mbf", "embedding_dim": 16, "image_size": [32, 32], "options": {"scale": 1, "width": 0.5}},
    "margin": {"name": "cosface", "options": {"scale": 16.0, "margin": 0.1}},
    "data": {"source": "synthetic", "identities": 8, "images_per_identity": 6},
    "loader": {"workers": 0},
    "batch_size": 16,
    "optimizer": {"lr": 0.05, "clip_norm": 5.0},
    "checkpoint": {"every": 0},
    "evaluation": {"every": 0},
    "device": "cpu",
}


def unit(rows: torch.Tensor) -> np.ndarray:
    values = rows.numpy().astype(np.float64)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def huber(difference: float) -> float:
    return 0.5 * difference**2 if abs(difference) < 1 else abs(difference) - 0.5


def test_losses_are_those_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(6, 5, generator=generator), torch.randn(6, 9, generator=generator)
    s, t = unit(student), unit(teacher)

    def distances(x: np.ndarray) -> np.ndarray:
        found = np.array([np.linalg.norm(x[i] - x[j]) for i, j in combinations(range(6), 2)])
        return found / found.mean()

    def angles(x: np.ndarray) -> np.ndarray:
        lines = [(x[i] - x[j], x[k] - x[j]) for i, j, k in permutations(range(6), 3)]
        return np.array([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in lines])

    by_distance = np.mean([huber(d) for d in distances(s) - distances(t)])
    # Torch goes through the triples in another order; their mean is the same.
    by_angle = np.mean([huber(d) for d in angles(s) - angles(t)])
    assert float(relation_loss(student, teacher)) == pytest.approx(by_distance + ANGLE_WEIGHT * by_angle, rel=1e-4)
    assert float(relation_loss(student, student @ torch.linalg.qr(torch.randn(5, 5))[0])) < 1e-5  # turned, not changed
    cosine = np.mean([a @ b for a, b in zip(s, unit(teacher[:, :5]), strict=True)])
    assert float(embedding_loss(student, teacher[:, :5])) == pytest.approx(1 - cosine, rel=1e-4)


def run(folder: Path, *changes: str) -> Path:
    train(open_run(validate(override(CONFIG, [f"out={folder}", *changes]))), lambda record: None)
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "run"
    return run(folder, "steps=10", "input.colour=bgr", "input.mean=100.0", "seed=3")


def agreement(student: Path, teacher: Path) -> tuple[float, float]:
    """Mean cosine between both networks' embeddings of an image, and correlation of their similarities of pairs."""
    faces = SyntheticFaces(8, 6, size=(32, 32))
    images = [faces[index][0] for index in range(len(faces))]
    one, other = (load(path).embed(images) for path in (student, teacher))
    pairs = np.triu_indices(len(images), 1)
    alike = np.corrcoef((one @ one.T)[pairs], (other @ other.T)[pairs])[0, 1]
    return float((one * other).sum(1).mean()) if one.shape == other.shape else float("nan"), float(alike)


def test_a_student_comes_to_resemble_its_teacher(teacher: Path, tmp_path: Path) -> None:
    steps, given = "steps=40", (f"distillation.teacher={teacher}", "distillation.weight=20.0")
    alone = agreement(run(tmp_path / "alone", steps), teacher)
    by_embedding = agreement(run(tmp_path / "embedding", steps, *given), teacher)
    assert by_embedding[0] > max(0.7, alone[0] + 0.2)
    other_size = "network.embedding_dim=24"
    projected = agreement(run(tmp_path / "both", steps, *given, "distillation.loss=both", other_size), teacher)
    assert projected[1] > alone[1]


@pytest.mark.parametrize(("size", "trained"), [(16, set()), (24, {"projection.weight"})])
def test_the_teacher_is_not_part_of_the_training(teacher: Path, size: int, trained: set[str]) -> None:
    changes = [f"distillation.teacher={teacher}", f"network.embedding_dim={size}", "steps=1", "dry_run=true"]
    trainer = build_trainer(validate(override(CONFIG, changes)))
    assert trainer.distiller is not None
    assert set(trainer.distiller.state_dict()) == trained
    weights = [weight for group in trainer.optimizer.param_groups for weight in group["params"]]
    assert len(weights) == len(list(trainer.network.parameters())) + len(trained)


def test_a_resumed_student_is_the_undisturbed_one(teacher: Path, tmp_path: Path) -> None:
    options = (f"distillation.teacher={teacher}", "distillation.loss=both", "network.embedding_dim=24", "steps=4")
    whole = load(run(tmp_path / "whole", *options))
    run(tmp_path / "parts", *options, "checkpoint.every=2")
    for path in (tmp_path / "parts" / "checkpoints" / "step_000000004").iterdir():
        path.unlink()
    (tmp_path / "parts" / "checkpoints" / "step_000000004").rmdir()
    parts = load(run(tmp_path / "parts", *options, "checkpoint.every=2", "resume=auto"))
    image = SyntheticFaces(1, 1, size=(32, 32))[0][0]
    assert np.array_equal(whole.embed([image]), parts.embed([image]))


def test_a_teacher_of_another_size_is_refused(teacher: Path, tmp_path: Path) -> None:
    assert InputSpec(size=(32, 32)) != load(teacher).input
    with pytest.raises(UserError, match="both take one size, got 32x32 and 48x48"):
        run(tmp_path / "run", "steps=1", f"distillation.teacher={teacher}", "network.image_size=[48, 48]")
