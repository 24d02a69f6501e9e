"""Knowledge distillation: the network learns to place images as a teacher does, besides telling people apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from faceprint.config import Distillation
from faceprint.data.pixels import InputSpec
from faceprint.distributed import world_size
from faceprint.errors import UserError
from faceprint.training.optim import scale_gradient

GROUP = 128
"""Images among which relations are compared: angles are as many as the cube of them."""
ANGLE_WEIGHT = 2.0
"""Of the angles beside the distances: 1 to 2 in the paper's metric learning."""


def embedding_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cosine between rows of (B, D) and (B, D), a scalar from 0 to 2."""
    return 1 - F.cosine_similarity(student, teacher).mean()


def relation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Relational knowledge distillation, distances and angles (arXiv 1904.05068, sections 3.2.1 and 3.2.2), a scalar.

    (B, D) and (B, E), of which the directions count alone. Distances between images, each divided by their mean over
    the pairs, and the cosines of the angles at each image between two others are compared by Huber's loss of delta 1;
    the means over pairs and over triples of different images are added, angles with `ANGLE_WEIGHT`.
    """
    student, teacher = F.normalize(student), F.normalize(teacher)
    distance = F.smooth_l1_loss(_distances(student), _distances(teacher))
    return distance + ANGLE_WEIGHT * F.smooth_l1_loss(_angles(student), _angles(teacher))


def _distances(x: Tensor) -> Tensor:
    """(B, D) -> distances of all pairs i < j over their mean, (B (B - 1) / 2)."""
    found = F.pdist(x)
    return found / found.mean().clamp(min=1e-12)


def _angles(x: Tensor) -> Tensor:
    """(B, D) -> cosines of the angle at j between i and k, of all triples of different images, (B (B - 1) (B - 2))."""
    size = len(x)
    lines = F.normalize(x[:, None] - x[None], dim=2)  # (B, B, D): [i, j] from j to i
    cosines = torch.einsum("ijd,kjd->jik", lines, lines)
    apart = ~torch.eye(size, dtype=torch.bool, device=x.device)
    return cosines[apart[:, :, None] & apart[:, None] & apart[None]]


class Distiller(nn.Module):
    """The distillation loss of a batch. It has weights of its own, which train, where the dimensions differ.

    `spec` is what the network takes. Raises `UserError` for a teacher that takes images of another size.
    """

    def __init__(
        self,
        config: Distillation,
        path: Path,
        spec: InputSpec,
        embedding_dim: int,
        device: torch.device,
        scaler: torch.amp.GradScaler,
    ) -> None:
        super().__init__()
        self.weight = config.weight
        self.loss = config.loss
        self._spec = spec
        self._scaler = scaler
        self._features, self._input, teacher_dim = open_teacher(path, device)
        if self._input.size != spec.size:
            sizes = " and ".join("x".join(map(str, size)) for size in (self._input.size, spec.size))
            raise UserError(f"distillation.teacher={path} and network.image_size: both take one size, got {sizes}")
        self.projection: nn.Linear | None = None
        if config.loss != "relation" and teacher_dim != embedding_dim:
            self.projection = nn.Linear(embedding_dim, teacher_dim, bias=False, device=device)
            first = torch.randn(teacher_dim, embedding_dim, generator=torch.Generator().manual_seed(0))
            self.projection.weight.data.copy_(first / embedding_dim**0.5)  # in every process, of any number, the same
            self.projection.weight.register_hook(average)

    def forward(self, images: Tensor, student: Tensor) -> Tensor:
        """Network input (B, 3, H, W) and the network's embeddings of it (B, D) -> the loss, weighted, a scalar.

        Relations are compared among `GROUP` images at a time, of this process. The value is the mean over processes,
        the gradient that of this process's part.
        """
        with torch.no_grad():
            teacher = self._features(self._for_teacher(images)).float()
        loss = student.new_zeros(())
        if self.loss != "relation":
            loss = embedding_loss(self._project(student), teacher)
        if self.loss != "embedding" and len(student) > 2:
            groups = zip(student.split(GROUP), teacher.split(GROUP), strict=True)
            parts = [relation_loss(one, other) for one, other in groups if len(one) > 2]
            loss = loss + torch.stack(parts).mean()
        return self.weight * (loss + (average(loss.detach()) - loss.detach()))

    def _project(self, student: Tensor) -> Tensor:
        if self.projection is None:
            return student
        weight = self.projection.weight
        return F.linear(student, scale_gradient(weight, self._scaler) if self._scaler.is_enabled() else weight)

    def _for_teacher(self, images: Tensor) -> Tensor:
        pixels = images * self._spec.std + self._spec.mean
        return self._input.normalize(pixels.flip(1) if self._input.colour != self._spec.colour else pixels)


def average(tensor: Tensor) -> Tensor:
    """The mean of `tensor` over processes."""
    if world_size() == 1:
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total / world_size()


def open_teacher(path: Path, device: torch.device) -> tuple[Callable[[Tensor], Tensor], InputSpec, int]:
    """Network input (B, 3, H, W) -> raw embeddings (B, D), on `device`; what it takes; D."""
    from faceprint.inference.embedder import load
    from faceprint.inference.folding import fold_norms
    from faceprint.inference.model_folder import load_model

    if path.is_dir():
        network, card = load_model(path)
        folded = fold_norms(network).to(device).eval()
        # Not the module itself: as part of the distiller it would be trained, and kept in every checkpoint.
        return lambda images: folded(images), card.input, network.embedding_dim
    embedder = load(path, device=device.type)
    return (
        lambda images: torch.from_numpy(embedder.features(images.cpu().numpy())).to(device),
        embedder.input,
        (embedder.embedding_dim),
    )


def build_distiller(
    config: Distillation, spec: InputSpec, embedding_dim: int, device: torch.device, scaler: torch.amp.GradScaler
) -> Distiller | None:
    """The distiller that `config` describes; None without a teacher."""
    if config.teacher is None:
        return None
    return Distiller(config, config.teacher, spec, embedding_dim, device, scaler)
