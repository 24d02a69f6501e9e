"""Layout of the face-recognition networks of the Switchable-Normalization code.

Source: github.com/switchablenorms/Switchable-Normalization, face_recognition/. Norms are called norm1, norm2 …,
their tensors are (1, C, 1, 1) or (1, C, 1). The logits, called mean_weight and var_weight, stand in the order IN, LN,
BN, as ours do; with ARGMAX the largest logit decides.
"""

from __future__ import annotations

from faceprint.data.pixels import InputSpec
from faceprint.models.weights.layout import Constant, Largest, Layout, Shared, Source, by_rules

EPS_NORM, EPS_EMBEDDING = 2e-5, 1e-5

_rules = by_rules(
    [
        (r"backbone\.bn1\.(\w+)", r"norm1.\1"),
        (r"backbone\.((conv1|prelu)\.\w+)", r"\1"),
        (r"backbone\.(layer\d\.\d+)\.bn(\d\.\w+)", r"\1.norm\2"),
        (r"backbone\.(layer\d\.\d+\.(conv\d|prelu|downsample\.[01])\.\w+)", r"\1"),
        (r"backbone\.(layer\d\.\d+\.se)\.gate\.1\.weight", r"\1.fc1.weight"),
        (r"backbone\.(layer\d\.\d+\.se)\.gate\.2\.weight", Shared(r"\1.pelu.weight")),
        (r"backbone\.(layer\d\.\d+\.se)\.gate\.3\.weight", r"\1.fc2.weight"),
        (r"backbone\.layer\d\.\d+\.se\.gate\.[13]\.bias", Constant(0.0)),
        (r"output\.norm\.(\w+)", r"output_layer.0.\1"),
        (r"output\.fc\.(\w+)", r"output_layer.3.\1"),
        (r"output\.features\.(\w+)", r"output_layer.4.\1"),
    ]
)


def _source(name: str) -> Source | None:
    layer, _, leaf = name.rpartition(".")
    if leaf == "choice":
        logits = [_source(f"{layer}.mean_logits"), _source(f"{layer}.var_logits")]
        return Largest(tuple(name for source in logits if source for name in source.names))
    return _rules(name.replace("_logits", "_weight"))


SWITCHABLE = Layout(
    marker=r"layer1\.0\.norm1\.weight",
    source=lambda _network: _source,
    eps=lambda norm: EPS_EMBEDDING if norm == "output.features" else EPS_NORM,
    input=InputSpec(),
    note="the published network divides embeddings by their length, ours leaves that to its user",
)
