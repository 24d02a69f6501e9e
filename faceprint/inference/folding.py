"""Batch norms folded into the convolutions before them: the same embeddings, for mbf in three quarters of the time."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import fx, nn
from torch.fx.proxy import TraceError
from torch.nn.utils.fusion import fuse_conv_bn_eval

from faceprint.models import FaceNetwork
from faceprint.models.norms import FrozenBatchNorm2d, SharedBatchNorm, SwitchNorm2d, plain_norms


def fold_norms(network: FaceNetwork) -> FaceNetwork:
    """A network that computes the same as `network`, which must be in evaluation mode and shares weights with it.

    Each `BatchNorm2d` of the backbone whose input is a convolution's output, and the only use of it, becomes part
    of that convolution: w' = w g / sqrt(v + eps), b' = (b - m) g / sqrt(v + eps) + beta. A backbone that torch.fx
    cannot trace (one that decides by values) stays as it is.
    """
    assert not network.training
    try:
        backbone = fx.GraphModule(network.backbone, _Tracer().trace(network.backbone))
    except (TraceError, TypeError, ValueError, RuntimeError):
        return network
    plain_norms(backbone)
    modules: dict[str, nn.Module] = dict(backbone.named_modules())
    uses = Counter(str(node.target) for node in backbone.graph.nodes if node.op == "call_module")
    for node in list(backbone.graph.nodes):
        source = _conv_before(node, modules, uses)
        if source is not None:
            conv = fuse_conv_bn_eval(modules[str(source.target)], modules[str(node.target)])  # pyright: ignore[reportArgumentType,reportCallIssue]
            modules[str(source.target)] = conv
            backbone.set_submodule(str(source.target), conv)
            node.replace_all_uses_with(source)
            backbone.graph.erase_node(node)
    backbone.delete_all_unused_submodules()
    backbone.recompile()
    return FaceNetwork(
        backbone, network.output, image_size=network.image_size, embedding_dim=network.embedding_dim
    ).eval()


class _Tracer(fx.Tracer):
    """Takes every convolution and norm as a whole; torch.fx by itself takes only torch's own classes so."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = isinstance(m, nn.Conv2d | SwitchNorm2d | SharedBatchNorm | FrozenBatchNorm2d)
        return whole or super().is_leaf_module(m, module_qualified_name)


def _conv_before(node: fx.Node, modules: dict[str, nn.Module], uses: Counter[str]) -> fx.Node | None:
    """The convolution that feeds the batch norm `node` alone; None where `node` is something else."""
    if node.op != "call_module" or not isinstance(modules[str(node.target)], nn.BatchNorm2d):
        return None
    source: Any = node.args[0]
    if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) != 1:
        return None
    alone = uses[str(source.target)] == 1 and uses[str(node.target)] == 1
    return source if alone and isinstance(modules[str(source.target)], nn.Conv2d) else None
