"""Vision transformer (arXiv 2010.11929) for faces, in the layout of arcface_torch: every token feeds the embedding.

Parameters are one to one with the published checkpoints'; those of `feature.0` to `feature.3` are here `output.fc1`,
`output.norm1`, `output.fc2` and `output.features`.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceprint.errors import UserError
from faceprint.models.checkpointing import checkpointed
from faceprint.models.network import FaceNetwork
from faceprint.models.norms import Norm
from faceprint.models.outputs import Float32Linear

EPS_EMBEDDING = 2e-5
INIT_STD = 0.02


class StochasticDepth(nn.Module):
    """In training, a sample's branch is dropped with probability `rate`, the others' are divided by 1 - rate.

    (B, N, C) to the same; arXiv 1603.09382.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(x.shape[0], 1, 1, device=x.device) >= self.rate
        return x * (kept / (1 - self.rate)).to(x.dtype)


class PatchEmbed(nn.Module):
    """(B, 3, H, W) -> tokens (B, N, C), row by row; pixels that fill no whole patch, right and below, are left out."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Scaled dot-product self-attention; (B, N, C) to the same. Queries, keys and values have no bias."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        )  # (B, h, N, d)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear - ReLU6 - linear on each token; (B, N, C) to the same."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.ReLU6()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """Attention, then an MLP, each on layer-normalised tokens and added to them; (B, N, C) to the same."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ViTBackbone(nn.Module):
    """(B, 3, H, W) -> tokens (B, `num_patches`, `dim`) float32.

    In training, `mask_ratio` of an image's tokens, drawn anew each time, skip the blocks, which saves their time; the
    mask token, learned, stands in their places in the output. **The published code masks a tenth whatever its ratio
    above 0 says; here it is the ratio.** `drop_path` is the last block's rate of stochastic depth, the first's is 0.
    With `recompute`, a training step keeps each block's input only.
    """

    def __init__(
        self,
        num_patches: int,
        *,
        patch_size: int,
        dim: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        drop_path: float,
        mask_ratio: float,
        recompute: bool,
    ) -> None:
        super().__init__()
        self.num_kept = max(1, int(num_patches * (1 - mask_ratio)))
        self.recompute = recompute
        self.patch_embed = PatchEmbed(patch_size, dim)
        self.pos_embed = nn.Parameter(torch.empty(1, num_patches, dim))
        # Where nothing is masked the token has no gradient; it is there for the checkpoints that hold one.
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim), requires_grad=self.num_kept < num_patches)
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.Sequential(*(Block(dim, heads, mlp_ratio, rate) for rate in rates))
        self.norm = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patch_embed(images) + self.pos_embed
        if not self.training or self.num_kept == tokens.shape[1]:
            return self._encode(tokens)
        places = torch.rand(tokens.shape[:2], device=tokens.device).argsort(dim=1)[:, : self.num_kept]
        places = places.unsqueeze(2).expand(-1, -1, tokens.shape[2])
        kept = self._encode(tokens.gather(1, places))
        return self.mask_token.expand_as(tokens).scatter(1, places, kept)

    def _encode(self, tokens: Tensor) -> Tensor:
        tokens = checkpointed(self.blocks, tokens) if self.recompute and self.training else self.blocks(tokens)
        return self.norm(tokens.float())


def embedding_head(num_patches: int, dim: int, embedding_dim: int) -> nn.Sequential:
    """Tokens (B, N, C) -> embedding (B, D) float32: flatten - linear to C - norm - linear to D - norm."""
    norm = Norm("bn", EPS_EMBEDDING)
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=Float32Linear(num_patches * dim, dim, bias=False),
            norm1=norm.embedding(dim),
            fc2=Float32Linear(dim, embedding_dim, bias=False),
            features=norm.embedding(embedding_dim),
        )
    )


def vit(
    *,
    dim: int = 512,
    depth: int = 12,
    heads: int = 8,
    mlp_ratio: float = 4.0,
    patch_size: int = 9,
    drop_path: float = 0.1,
    mask_ratio: float = 0.1,
    recompute: bool = False,
    embedding_dim: int | None = None,
    image_size: tuple[int, int] = (112, 112),
) -> FaceNetwork:
    """A vision transformer; the defaults are `vit_s`. See `ViTBackbone` for the options.

    Its norms are layer norms, batch norms in the embedding head; the positions learned are those of `image_size`.
    Linear layers and positions start from a normal distribution of deviation 0.02, cut off at 2, biases from 0.
    """
    if min(dim, depth, heads, patch_size, dim * mlp_ratio) < 1 or dim % heads:
        raise UserError(
            "dim, depth, heads, patch_size and the MLP's width must be at least 1 and heads divide dim,"
            f" got dim={dim}, depth={depth}, heads={heads}, patch_size={patch_size}, mlp_ratio={mlp_ratio}"
        )
    if not (0 <= drop_path < 1 and 0 <= mask_ratio < 1):
        raise UserError(f"drop_path and mask_ratio must be in [0, 1), got {drop_path} and {mask_ratio}")
    embedding_dim = 512 if embedding_dim is None else embedding_dim
    if embedding_dim < 1:
        raise UserError(f"embedding_dim must be at least 1, got {embedding_dim}")
    num_patches = (image_size[0] // patch_size) * (image_size[1] // patch_size)
    if num_patches < 1:
        raise UserError(f"image_size {image_size[0]}x{image_size[1]} is too small: at least {patch_size} each way")
    backbone = ViTBackbone(
        num_patches,
        patch_size=patch_size,
        dim=dim,
        depth=depth,
        heads=heads,
        mlp_ratio=mlp_ratio,
        drop_path=drop_path,
        mask_ratio=mask_ratio,
        recompute=recompute,
    )
    head = embedding_head(num_patches, dim, embedding_dim)
    network = FaceNetwork(backbone, head, image_size=image_size, embedding_dim=embedding_dim)
    _start(network, backbone)
    return network


def _start(network: FaceNetwork, backbone: ViTBackbone) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=INIT_STD)
            if layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                nn.init.zeros_(layer.bias)
    nn.init.trunc_normal_(backbone.pos_embed, std=INIT_STD)
    nn.init.normal_(backbone.mask_token, std=INIT_STD)
