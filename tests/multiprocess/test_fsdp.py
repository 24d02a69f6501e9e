"""FSDP beside DDP: the same losses, and checkpoints that either continues."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_training_worlds import Job, largest_difference, losses, trained

from faceprint.inference.model_folder import load_model

VIT = (
    "network.name=vit",
    "network.options={dim: 24, depth: 2, heads: 2, patch_size: 8, drop_path: 0.0, mask_ratio: 0.0}",
    "accumulate=2",
    "optimizer={lr: 0.01, name: adamw, clip_norm: 1.0}",
)
FSDP = "distributed.strategy=fsdp"


def test_sharded_weights_train_alike_and_continue_each_other(tmp_path: Path, outcome: Callable[..., None]) -> None:
    def job(name: str, *changes: str, stop_after: int = 0) -> Job:
        return Job(f"{tmp_path}/{name}", (*VIT, "steps=5", *changes), stop_after)

    ddp, fsdp, _, _, to_ddp, to_fsdp = trained(
        2,
        job("ddp"),
        job("fsdp", FSDP),
        job("to ddp", FSDP, stop_after=2),
        job("to fsdp", stop_after=2),
        job("to ddp", "resume=true"),
        job("to fsdp", "resume=true", FSDP),
    )
    assert len(losses(ddp)) == 5
    for found in (fsdp, to_ddp, to_fsdp):
        assert losses(found) == pytest.approx(losses(ddp), rel=1e-4)
        assert found[0]["gradient_norm"] == pytest.approx(ddp[0]["gradient_norm"], rel=1e-4)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    one, other = (load_model(tmp_path / name / "model")[0].eval()(images) for name in ("ddp", "fsdp"))
    lowest = float(torch.cosine_similarity(one, other).min())
    assert lowest > 0.999
    outcome(
        "FSDP beside DDP in 2 processes, and each resumed by the other",
        largest_difference_of_losses={
            name: f"{largest_difference(found, ddp):.1e}"
            for name, found in (("FSDP", fsdp), ("FSDP to DDP", to_ddp), ("DDP to FSDP", to_fsdp))
        },
        lowest_cosine_of_embeddings=round(lowest, 6),
    )


def test_sharded_weights_train_with_a_projection_and_in_bf16(tmp_path: Path) -> None:
    """A projection of a distilled student is whole in each process, and its gradient counts beside the shares."""
    (trained_teacher,) = trained(1, Job(f"{tmp_path}/teacher", ("steps=1", "network.embedding_dim=24")))
    assert len(losses(trained_teacher)) == 1

    def job(name: str, *changes: str) -> Job:
        return Job(f"{tmp_path}/{name}", (*VIT, "steps=3", *changes))

    student = (f"distillation.teacher={tmp_path}/teacher", "distillation.weight=5.0")
    bf16 = "precision=bf16"
    ddp, fsdp, low_ddp, low_fsdp, bn = trained(
        2,
        job("ddp", *student),
        job("fsdp", *student, FSDP),
        job("low ddp", bf16),
        job("low fsdp", bf16, FSDP),
        Job(f"{tmp_path}/bn", ("steps=2", bf16, FSDP)),
    )
    assert losses(fsdp) == pytest.approx(losses(ddp), rel=1e-4)
    assert fsdp[0]["gradient_norm"] == pytest.approx(ddp[0]["gradient_norm"], rel=1e-4)
    assert losses(low_fsdp) == pytest.approx(losses(low_ddp), rel=0.05)
    assert len(losses(bn)) == 2
