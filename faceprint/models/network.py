"""A network: a backbone that makes a feature map, and an output option that makes the embedding."""

from __future__ import annotations

from torch import Tensor, nn

from faceprint.errors import UserError
from faceprint.models.norms import Norm
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
    map_size: tuple[int, int],
    image_size: tuple[int, int],
    embedding_dim: int | None,
    norm: Norm,
    default_dim: int = 512,
) -> FaceNetwork:
    """Join a backbone to an output option; its last map has `channels` and the height and width `map_size`.

    `embedding_dim` None is what the option fixes (A, Z), else `default_dim`. Raises `UserError` for an unknown
    option and for a number of dimensions that the option cannot give.
    """
    option = OUTPUTS[output]
    fixed = option.fixed_dim(channels, map_size)
    dim = embedding_dim if embedding_dim is not None else fixed or default_dim
    if dim < 1:
        raise UserError(f"embedding_dim must be at least 1, got {dim}")
    if fixed is not None and dim != fixed:
        raise UserError(
            f"embedding_dim {dim}: output option {output!r} has no layer to change the size, it gives {fixed} here;"
            f" leave embedding_dim out or choose another option, such as 'C' or 'E'"
        )
    head = option.build(channels, map_size, dim, norm)
    return FaceNetwork(backbone, head, image_size=image_size, embedding_dim=dim)


def he_normal(module: nn.Module) -> None:
    """Start every convolution and linear layer inside `module` He-normal (fan out), as the systems of 2017 did."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def map_after(image_size: tuple[int, int], reduction: int) -> tuple[int, int]:
    """Size of the last map of a network whose strides multiply to `reduction`, each rounding up.

    That is what strided convolutions do whose padding is half their kernel. Raises `UserError` for an image so
    small that less than 2 x 2 places are left.
    """
    height, width = image_size
    if min(height, width) <= reduction:
        raise UserError(f"image_size {height}x{width} is too small: at least {reduction + 1} pixels each way")
    return -(-height // reduction), -(-width // reduction)
