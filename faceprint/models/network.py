"""A network: a backbone that makes a feature map, and an output option that makes the embedding."""

from __future__ import annotations

from torch import Tensor, nn

from faceprint.errors import UserError
from faceprint.models.outputs import OUTPUTS


class FaceNetwork(nn.Module):
    """`output(backbone(images))`: images (B, 3, H, W) float in [-1, 1] -> raw embeddings (B, D) float32.

    `image_size` (height, width) and `embedding_dim` are what it was built for.
    """

    def __init__(
        self, backbone: nn.Module, output: nn.Module, *, image_size: tuple[int, int], embedding_dim: int
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.output = output
        self.image_size = image_size
        self.embedding_dim = embedding_dim

    def forward(self, images: Tensor) -> Tensor:
        return self.output(self.backbone(images))


def attach_output(
    backbone: nn.Module,
    output: str,
    *,
    channels: int,
    reduction: int,
    image_size: tuple[int, int],
    embedding_dim: int,
    eps: float,
) -> FaceNetwork:
    """Join a backbone to an output option; its last map has `channels` and is `reduction` times smaller than the image.

    The map's height and width round up, as strided 3x3 convolutions with padding 1 do. Raises `UserError` for
    sizes that leave nothing of the image.
    """
    if embedding_dim < 1:
        raise UserError(f"embedding_dim must be at least 1, got {embedding_dim}")
    height, width = image_size
    if min(height, width) < 2 * reduction:
        raise UserError(f"image_size {height}x{width} is too small: at least {2 * reduction} pixels each way")
    map_size = (-(-height // reduction), -(-width // reduction))
    head = OUTPUTS[output](channels, map_size, embedding_dim, eps)
    return FaceNetwork(backbone, head, image_size=image_size, embedding_dim=embedding_dim)
