"""Layouts of insightface's recognition/arcface_torch: iresnet (r18 to r200, r2060), MobileFaceNet and ViT.

Source: the backbones in github.com/deepinsight/insightface. Their FC takes the map flattened channel by channel, as
ours does. The last norm of iresnet has its scale fixed at 1, and files hold it all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import groupby

from torch import nn

from faceprint.data.pixels import InputSpec
from faceprint.models.mobilefacenet import EPS as EPS_MBF
from faceprint.models.mobilefacenet import Bottleneck, MobileFaceNetBackbone, mobilefacenet
from faceprint.models.network import FaceNetwork
from faceprint.models.resnet import EPS_IRESNET, resnet
from faceprint.models.vit import EPS_EMBEDDING as EPS_VIT_EMBEDDING
from faceprint.models.vit import ViTBackbone, vit
from faceprint.models.weights.layout import Layout, Same, Source, by_rules, units_per_stage

_iresnet = by_rules(
    [
        (r"backbone\.((conv1|bn1|prelu)\.\w+)", r"\1"),
        (r"backbone\.(layer\d\.\d+\.(bn1|conv1|bn2|prelu|conv2|bn3|downsample\.[01])\.\w+)", r"\1"),
        (r"output\.norm\.(\w+)", r"bn2.\1"),
        (r"output\.((fc|features)\.\w+)", r"\1"),
    ]
)


def _published_iresnet(network: FaceNetwork) -> FaceNetwork | None:
    units = units_per_stage(network)
    return (
        resnet(units=units, bottleneck=False, eps=EPS_IRESNET, embedding_dim=network.embedding_dim) if units else None
    )


IRESNET = Layout(
    marker=r"layer1\.0\.bn1\.weight",
    source=lambda _network: _iresnet,
    eps=lambda _norm: EPS_IRESNET,
    input=InputSpec(),
    published=_published_iresnet,
)

_mbf_ends = by_rules(
    [
        (r"backbone\.conv_sep\.(\d\.\w+)", r"conv_sep.layers.\1"),
        (r"output\.conv\.(\w+)", r"features.layers.0.layers.0.\1"),
        (r"output\.norm\.(\w+)", r"features.layers.0.layers.1.\1"),
        (r"output\.fc\.(\w+)", r"features.layers.2.\1"),
        (r"output\.features\.(\w+)", r"features.layers.3.\1"),
    ]
)


def _runs(layers: nn.Sequential) -> list[list[nn.Module]]:
    """The layers as arcface_torch numbers them: units in a row that add their input count as one."""
    runs: list[list[nn.Module]] = []
    for residual, group in groupby(layers, lambda layer: isinstance(layer, Bottleneck) and layer.residual):
        members = list(group)
        runs.extend([members] if residual else [[layer] for layer in members])
    return runs


def _mbf(network: FaceNetwork) -> Callable[[str], Source | None]:
    """`layers.{n}` of ours by its place in the published list of lists; a convolution, its norm and PReLU are one
    `layers` of their own there."""
    backbone = network.backbone
    if not isinstance(backbone, MobileFaceNetBackbone):
        return lambda _name: None
    places: list[str] = []
    for number, run in enumerate(_runs(backbone.layers)):
        residual = isinstance(run[0], Bottleneck) and run[0].residual
        places.extend(f"layers.{number}.layers.{i}" if residual else f"layers.{number}" for i in range(len(run)))

    def source(name: str) -> Source | None:
        match = re.fullmatch(r"backbone\.layers\.(\d+)(\.layers\.\d)?\.(\d\.\w+)", name)
        if match is None:
            return _mbf_ends(name)
        return Same(f"{places[int(match[1])]}{match[2] or ''}.layers.{match[3]}")

    return source


def _published_mbf(network: FaceNetwork) -> FaceNetwork | None:
    backbone = network.backbone
    if not isinstance(backbone, MobileFaceNetBackbone):
        return None
    runs = _runs(backbone.layers)
    if len(runs) != 8:
        return None
    stem, first, second, third = (len(run) for run in runs[1::2])
    scale = network.state_dict()["backbone.layers.0.0.weight"].shape[0] // 64
    return mobilefacenet(blocks=(stem, first, second, third), scale=scale, embedding_dim=network.embedding_dim)


MBF = Layout(
    marker=r"conv_sep\.layers\.0\.weight",
    source=_mbf,
    eps=lambda _norm: EPS_MBF,
    input=InputSpec(),
    published=_published_mbf,
)

_vit = by_rules(
    [
        (r"backbone\.(.+)", r"\1"),
        (r"output\.fc1\.(\w+)", r"feature.0.\1"),
        (r"output\.norm1\.(\w+)", r"feature.1.\1"),
        (r"output\.fc2\.(\w+)", r"feature.2.\1"),
        (r"output\.features\.(\w+)", r"feature.3.\1"),
    ]
)

_EPS_LAYER_NORM = 1e-5


def _vit_eps(norm: str) -> float:
    return EPS_VIT_EMBEDDING if norm.startswith("output.") else _EPS_LAYER_NORM


def _published_vit(network: FaceNetwork) -> FaceNetwork | None:
    backbone = network.backbone
    if not isinstance(backbone, ViTBackbone):
        return None
    _, dim = backbone.pos_embed.shape[1:]
    patch_size = backbone.patch_embed.proj.kernel_size[0]
    mlp_ratio = network.state_dict()["backbone.blocks.0.mlp.fc1.weight"].shape[0] / dim
    return vit(
        dim=dim,
        depth=len(backbone.blocks),
        heads=1,  # no tensor's shape knows of it
        mlp_ratio=mlp_ratio,
        patch_size=patch_size,
        embedding_dim=network.embedding_dim,
    )


VIT = Layout(
    marker=r"patch_embed\.proj\.weight",
    source=lambda _network: _vit,
    eps=_vit_eps,
    input=InputSpec(),
    published=_published_vit,
)
